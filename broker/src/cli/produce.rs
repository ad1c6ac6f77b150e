//! `skylark produce`: sends messages from the command line.

use std::io::{BufRead, IsTerminal, Write};
use std::sync::Arc;

use bytes::Bytes;
use clap::Args as ClapArgs;
use skylark_client::{Client, ClientOptions, Message, Producer, ProducerOptions, SendError, Sent};
use skylark_transport_tcp::{Limits, TcpTransport};
use tokio::task::JoinSet;

use super::{Failure, log_warnings_to_stderr};

/// What `skylark produce` takes.
#[derive(ClapArgs)]
pub(super) struct Args {
    /// Topic to send to
    topic: String,

    /// Body of the message; without it and without --size, each line of standard input is a message
    body: Option<String>,

    /// Nameservers, separated by semicolons
    #[arg(long, env = "NAMESRV_ADDR", default_value = "127.0.0.1:9876", value_name = "HOST:PORT")]
    namesrv: String,

    /// Producer group
    #[arg(long, default_value = "skylark_produce")]
    group: String,

    /// Tag of the messages
    #[arg(long)]
    tag: Option<String>,

    /// Keys of the messages, separated by spaces
    #[arg(long)]
    key: Option<String>,

    /// A property of the messages; may be given several times
    #[arg(long = "property", value_name = "NAME=VALUE", value_parser = parse_property)]
    properties: Vec<(String, String)>,

    /// How often to send the body
    #[arg(long, default_value_t = 1)]
    count: u64,

    /// Send a body of so many letters
    #[arg(long, value_name = "BYTES", conflicts_with = "body")]
    size: Option<usize>,

    /// Say only how many were sent
    #[arg(long, short)]
    quiet: bool,
}

/// Sends under way at a time.
const IN_FLIGHT: usize = 256;

fn parse_property(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or("write it as NAME=VALUE")?;
    Ok((name.to_owned(), value.to_owned()))
}

pub(super) fn run(args: Args) -> Result<(), Failure> {
    log_warnings_to_stderr();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let transport = TcpTransport::new(Limits::default(), runtime.handle().clone());
    runtime.block_on(async {
        let client = Client::new(Arc::new(transport), ClientOptions::new(&args.namesrv));
        let producer = Arc::new(Producer::new(&client, ProducerOptions::new(&args.group)));
        let mut sending = Sending { producer, under_way: JoinSet::new(), quiet: args.quiet, sent: 0 };
        let outcome = send_all(&args, &mut sending).await;
        if let Some(producer) = Arc::into_inner(sending.producer) {
            producer.shutdown().await;
        }
        client.close();
        eprintln!("{} messages sent", sending.sent);
        outcome
    })
}

async fn send_all(args: &Args, sending: &mut Sending) -> Result<(), Failure> {
    let body = match (&args.body, args.size) {
        (Some(body), _) => Some(Bytes::from(body.clone())),
        (None, Some(bytes)) => Some(filler(bytes)),
        (None, None) => None,
    };
    match body {
        Some(body) => {
            for _ in 0..args.count {
                sending.send(message(args, body.clone())).await?;
            }
        }
        None => {
            if std::io::stdin().is_terminal() {
                eprintln!("each line is a message; end with Ctrl-D");
            }
            // Reading blocks, which only delays this task: the sends run on the runtime's threads.
            for line in std::io::stdin().lock().lines() {
                let line = line?;
                if !line.is_empty() {
                    sending.send(message(args, Bytes::from(line))).await?;
                }
            }
        }
    }
    sending.finish().await
}

/// Letters that repeat, to fill a body.
pub(super) fn filler(bytes: usize) -> Bytes {
    (b'a'..=b'z').cycle().take(bytes).collect()
}

fn message(args: &Args, body: Bytes) -> Message {
    let mut message = Message::new(args.topic.clone(), body);
    if let Some(tag) = &args.tag {
        message = message.tag(tag);
    }
    if let Some(key) = &args.key {
        message = message.keys(key);
    }
    args.properties.iter().fold(message, |message, (name, value)| message.property(name, value))
}

struct Sending {
    producer: Arc<Producer>,
    under_way: JoinSet<Result<Sent, SendError>>,
    quiet: bool,
    sent: u64,
}

impl Sending {
    async fn send(&mut self, message: Message) -> Result<(), Failure> {
        while self.under_way.len() >= IN_FLIGHT {
            self.next().await?;
        }
        let producer = Arc::clone(&self.producer);
        self.under_way.spawn(async move { producer.send(&message).await });
        Ok(())
    }

    async fn finish(&mut self) -> Result<(), Failure> {
        while !self.under_way.is_empty() {
            self.next().await?;
        }
        Ok(())
    }

    async fn next(&mut self) -> Result<(), Failure> {
        if let Some(result) = self.under_way.join_next().await {
            let sent = result??;
            self.sent += 1;
            if !self.quiet {
                writeln!(std::io::stdout(), "{} {} {}", sent.queue, sent.queue_offset, sent.message_id)?;
            }
        }
        Ok(())
    }
}

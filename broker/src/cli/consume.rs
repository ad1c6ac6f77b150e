//! `skylark consume`: prints messages as they come.

use std::io::{self, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use clap::Args as ClapArgs;
use skylark_client::{Client, ClientOptions, Consumed, PushConsumer, PushOptions, Received, StartFrom};
use skylark_transport_tcp::{Limits, TcpTransport};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::Notify;

use super::{Failure, log_warnings_to_stderr};

/// What `skylark consume` takes.
#[derive(ClapArgs)]
pub(super) struct Args {
    /// Topic to consume
    topic: String,

    /// Consumer group; its members share the messages
    #[arg(long, default_value = "skylark_consume")]
    group: String,

    /// Nameservers, separated by semicolons
    #[arg(long, env = "NAMESRV_ADDR", default_value = "127.0.0.1:9876", value_name = "HOST:PORT")]
    namesrv: String,

    /// Which messages: tags separated by ||, or * for all
    #[arg(long, default_value = "*", value_name = "EXPRESSION")]
    tag: String,

    /// Where a new group starts: first, last, or milliseconds since 1970
    #[arg(long, default_value = "first", value_parser = parse_start)]
    from: StartFrom,

    /// End after so many messages
    #[arg(long, value_name = "MESSAGES")]
    count: Option<u64>,

    /// Give every member of the group every message
    #[arg(long)]
    broadcast: bool,

    /// Print bodies only
    #[arg(long, short)]
    quiet: bool,
}

fn parse_start(text: &str) -> Result<StartFrom, String> {
    match text {
        "first" => Ok(StartFrom::First),
        "last" => Ok(StartFrom::Last),
        _ => text
            .parse()
            .map(StartFrom::Timestamp)
            .map_err(|_| "say first, last, or a time in milliseconds since 1970".to_owned()),
    }
}

/// Prints messages until there are enough.
struct Printer {
    left: AtomicU64,
    quiet: bool,
    done: Notify,
}

impl Printer {
    fn take(&self, message: &Received) -> Consumed {
        // Relaxed: one message is with the listener at a time.
        let left = self.left.load(Ordering::Relaxed);
        if left == 0 {
            return Consumed::Release;
        }
        let printed = self.print(message);
        let left = if printed.is_ok() { left - 1 } else { 0 };
        self.left.store(left, Ordering::Relaxed);
        if left == 0 {
            self.done.notify_one();
        }
        // Nobody reads what could not be printed, so it is left to the group.
        if printed.is_ok() { Consumed::Success } else { Consumed::Release }
    }

    fn print(&self, message: &Received) -> io::Result<()> {
        let body = String::from_utf8_lossy(&message.body);
        if self.quiet {
            return writeln!(io::stdout(), "{body}");
        }
        let (tag, keys) = (message.tag().unwrap_or("-"), message.keys().unwrap_or("-"));
        let (queue, offset) = (&message.queue, message.queue_offset);
        writeln!(io::stdout(), "{queue} {offset} tag={tag} keys={keys} {body}")
    }
}

pub(super) fn run(args: Args) -> Result<(), Failure> {
    log_warnings_to_stderr();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let transport = TcpTransport::new(Limits::default(), runtime.handle().clone());
    runtime.block_on(async {
        let client = Client::new(Arc::new(transport), ClientOptions::new(&args.namesrv));
        let printer = Arc::new(Printer {
            left: AtomicU64::new(args.count.unwrap_or(u64::MAX)),
            quiet: args.quiet,
            done: Notify::new(),
        });
        let mut options = PushOptions::new(&args.group).subscribe(&args.topic, &args.tag);
        options.start_from = args.from;
        options.broadcasting = args.broadcast;
        // One at a time, so that lines come in each queue's order.
        options.concurrency = 1;
        let printing = Arc::clone(&printer);
        let listener = move |message: Received| {
            let printer = Arc::clone(&printing);
            async move { printer.take(&message) }
        };
        let consumer = PushConsumer::start(&client, options, listener).await?;
        let (mut terminate, mut interrupt) =
            (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
        if args.count != Some(0) {
            tokio::select! {
                () = printer.done.notified() => {}
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
        }
        consumer.shutdown().await;
        client.close();
        Ok(())
    })
}

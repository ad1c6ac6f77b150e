//! A consumer whose messages may come twice, and whose effects do not.
//!
//! Delivery is at least once: after a crash, a lost acknowledgement or a move of the group a message comes again. What
//! keeps its effect from happening twice is that **the effect and the key of its message are stored as one**, in the
//! consumer's own store: a row with a unique key in the same transaction of a database, or here a line in a file.
//! Three rules make it work:
//!
//! 1. The key is the application's own, such as the number of an order. The client's (`UNIQ_KEY`) is another one when
//!    an application that was restarted sends the same order again.
//! 2. Both are stored together or neither is. A key that is stored first loses the effect in a crash between the two;
//!    an effect that is stored first is repeated.
//! 3. The message is acknowledged once both are durable.
//!
//! ```text
//! skylark serve
//! skylark produce payments 100 --keys order-1     # as often as you like
//! cargo run -p skylark-broker --example idempotent_consumer -- 127.0.0.1:9876 payments ledger.txt
//! ```
//!
//! What suppresses a producer's retries (`skylark.duplicates=suppress`) makes repetitions rarer, and this none the less
//! necessary.

use std::collections::HashSet;
use std::error::Error;
use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use skylark_client::{Client, ClientOptions, Consumed, PushConsumer, PushOptions, Received, StartFrom};
use skylark_transport_tcp::{Limits, TcpTransport};

/// Payments, each with the key of its message: a line of text for both, so that a crash leaves both or neither.
pub struct Ledger {
    file: File,
    keys: HashSet<String>,
    balance: i64,
}

/// What became of a payment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Booked {
    /// It is in the ledger now.
    Now,
    /// It was there before.
    Before,
}

impl Ledger {
    /// The ledger in this file, which may not exist yet.
    ///
    /// # Errors
    /// When the file cannot be read, or holds something else.
    pub fn open(path: &Path) -> io::Result<Self> {
        let mut file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path)?;
        let mut text = String::new();
        file.read_to_string(&mut text)?;
        // A crash may have left the beginning of a line. Its payment was not acknowledged, and comes again.
        let whole = text.rfind('\n').map_or(0, |end| end + 1);
        file.set_len(whole as u64)?;
        file.seek(SeekFrom::End(0))?;
        let mut ledger = Self { file, keys: HashSet::new(), balance: 0 };
        for line in text[..whole].lines() {
            let payment =
                line.split_once('\t').and_then(|(key, amount)| Some((key, amount.parse::<i64>().ok()?)));
            let (key, amount) = payment.ok_or_else(|| io::Error::other(format!("`{line}` is no payment")))?;
            ledger.keys.insert(key.to_owned());
            ledger.balance += amount;
        }
        Ok(ledger)
    }

    /// Takes a payment in, once for each key. It is durable when this returns.
    ///
    /// # Errors
    /// When the file cannot be written: the ledger has to be opened again then.
    pub fn book(&mut self, key: &str, amount: i64) -> io::Result<Booked> {
        if self.keys.contains(key) {
            return Ok(Booked::Before);
        }
        self.file.write_all(format!("{key}\t{amount}\n").as_bytes())?;
        self.file.sync_data()?;
        self.keys.insert(key.to_owned());
        self.balance += amount;
        Ok(Booked::Now)
    }

    /// The sum of all payments.
    pub fn balance(&self) -> i64 {
        self.balance
    }

    /// How many there are.
    pub fn payments(&self) -> usize {
        self.keys.len()
    }
}

/// Books what comes until `done` is.
///
/// # Errors
/// When the group cannot consume.
pub async fn consume(
    namesrv: &str,
    (topic, group): (&str, &str),
    ledger: Arc<Mutex<Ledger>>,
    seen: impl Fn(Booked) + Send + Sync + 'static,
    done: impl Future<Output = ()>,
) -> Result<(), Box<dyn Error>> {
    let transport = TcpTransport::new(Limits::default(), tokio::runtime::Handle::current());
    let client = Client::new(Arc::new(transport), ClientOptions::new(namesrv));
    let mut options = PushOptions::new(group).subscribe(topic, "*");
    options.start_from = StartFrom::First;
    let take = Arc::new(move |message: &Received| {
        let key = message.keys().filter(|key| !key.contains(['\t', '\n']));
        let amount = std::str::from_utf8(&message.body).ok().and_then(|text| text.trim().parse().ok());
        let (Some(key), Some(amount)) = (key, amount) else {
            // It will never be one: to have it delivered again would help nobody.
            eprintln!("{} {} is no payment", message.queue, message.queue_offset);
            return Consumed::Success;
        };
        match ledger.lock().unwrap_or_else(PoisonError::into_inner).book(key, amount) {
            Ok(booked) => {
                seen(booked);
                Consumed::Success
            }
            // Nothing is acknowledged that may not be stored.
            Err(error) => {
                eprintln!("the ledger cannot be written: {error}");
                Consumed::Release
            }
        }
    });
    let listener = move |message: Received| {
        let take = Arc::clone(&take);
        async move { take(&message) }
    };
    let consumer = PushConsumer::start(&client, options, listener).await?;
    done.await;
    consumer.shutdown().await;
    client.close();
    Ok(())
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [namesrv, topic, file] = &arguments[..] else {
        return Err("say HOST:PORT of the nameserver, the topic, and the ledger's file".into());
    };
    let ledger = Arc::new(Mutex::new(Ledger::open(Path::new(file))?));
    let done = async {
        if let Err(error) = tokio::signal::ctrl_c().await {
            eprintln!("cannot wait for Ctrl-C: {error}");
        }
    };
    let seen = |booked| println!("{booked:?}");
    consume(namesrv, (topic, "ledger"), Arc::clone(&ledger), seen, done).await?;
    let ledger = ledger.lock().unwrap_or_else(PoisonError::into_inner);
    println!("{} payments, balance {}", ledger.payments(), ledger.balance());
    Ok(())
}

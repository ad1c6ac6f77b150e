//! A key-value store in memory, with the commit log as its write-ahead log.
//!
//! ```text
//! cargo run -p skylark-storage --example kv_wal [DIRECTORY]
//! ```
//!
//! Run twice over the same directory, it finds what it wrote. There is no snapshot: an opening folds the whole log.

use std::collections::BTreeMap;
use std::error::Error;
use std::sync::{Arc, PoisonError, RwLock};

use skylark_storage::device::Directory;
use skylark_storage::{
    CommitLog, Files, Group, Kind, NewRecord, Options, PhysicalOffset, Running, SystemClock,
};

const PUT: Kind = Kind::new(16); // The head is the key, the rest is the value.
const DELETE: Kind = Kind::new(17); // The head is the key.

type Table = BTreeMap<Vec<u8>, Vec<u8>>;
type Failure = Box<dyn Error + Send + Sync>;

/// A table that is the fold of a log. Threads share it, and their writes share flushes.
pub struct Store {
    log: Running<()>,
    table: Arc<RwLock<Table>>,
}

impl Store {
    /// The store in these files, as its log left it.
    pub fn open(files: impl Files + 'static) -> Result<Self, Failure> {
        let clock = Arc::new(SystemClock::new());
        let opened = CommitLog::open(Arc::new(files), clock, Options::default(), ())?;
        let mut table = Table::new();
        for group in opened.log.scan(PhysicalOffset::ZERO) {
            apply(&mut table, &group?); // What earlier openings wrote.
        }
        let table = Arc::new(RwLock::new(table));
        let shared = Arc::clone(&table);
        let fold =
            move |group: &Group| apply(&mut shared.write().unwrap_or_else(PoisonError::into_inner), group);
        Ok(Self { log: opened.run(fold)?, table })
    }

    /// Puts (`Some`) and deletes (`None`): all of them or none. On the disk, and in the table, when it returns.
    pub fn write(&self, batch: &[(&[u8], Option<&[u8]>)]) -> Result<(), Failure> {
        if batch.is_empty() || batch.iter().any(|(key, _)| key.len() > 255) {
            return Err("a batch has at least one key, and a key at most 255 bytes".into());
        }
        let unit = batch.iter().map(|(key, value)| {
            let kind = if value.is_some() { PUT } else { DELETE };
            NewRecord { kind, head: key, rest: value.as_slice() }
        });
        let appended = self.log.append(&unit.collect::<Vec<_>>(), |(), _, _| {})?;
        Ok(self.log.folded().wait_blocking(appended.end)?)
    }

    /// What was put under the key last.
    pub fn get(&self, key: &[u8]) -> Option<Vec<u8>> {
        self.table.read().unwrap_or_else(PoisonError::into_inner).get(key).cloned()
    }
}

fn apply(table: &mut Table, group: &Group) {
    for (_, record) in group.records() {
        match record.kind() {
            PUT => drop(table.insert(record.head().to_vec(), record.rest().to_vec())),
            DELETE => drop(table.remove(record.head())),
            _ => {} // The log's own.
        }
    }
}

fn main() -> Result<(), Failure> {
    let temporary = tempfile::tempdir()?;
    let directory = std::env::args_os().nth(1).map_or_else(|| temporary.path().to_owned(), Into::into);
    println!("the store is in {}", directory.display());

    let store = Store::open(Directory::open(&directory)?)?;
    let runs = store.get(b"runs").and_then(|runs| String::from_utf8(runs).ok()?.parse::<u32>().ok());
    let runs = runs.unwrap_or_default() + 1;
    println!("this is run {runs} over it; its log ends at {}", store.log.durable().get());
    store.write(&[(b"runs", Some(runs.to_string().as_bytes())), (b"fleeting", Some(b"value"))])?;
    println!("two keys were put as a unit: a crash keeps both or neither");
    store.write(&[(b"fleeting", None)])?;
    println!("one was deleted: {:?}", store.get(b"fleeting"));

    std::thread::scope(|scope| {
        let writers: Vec<_> = (0..16_u8)
            .map(|writer| {
                let store = &store;
                scope.spawn(move || {
                    (0..100_u8).try_for_each(|n| store.write(&[(&[b'k', writer, n], Some(b"value"))]))
                })
            })
            .collect();
        writers.into_iter().try_for_each(|writer| writer.join().map_err(|_| "a writer panicked")?)
    })?;
    println!("16 threads put 100 keys each, every one on the disk before the next");
    drop(store);

    let store = Store::open(Directory::open(&directory)?)?;
    println!("opened again, the table has {} keys", store.table.read().map_or(0, |table| table.len()));
    Ok(())
}

//! The nameserver inside the broker, whose configuration the broker's log keeps.

use std::future::poll_fn;
use std::sync::{Arc, OnceLock};

use skylark_nameserver::{JournalError, KvChange, KvJournal, NameServer, Recorded};
use skylark_storage::Registration;

use crate::broker::Broker;
use crate::folds::kv::KvChanged;

/// The nameserver that a broker hosts, if it does.
#[derive(Default)]
pub struct Hosted(OnceLock<Arc<NameServer>>);

impl Hosted {
    /// The broker hosts `server` from now on: what tools have told it earlier is told to it, and what they tell it is
    /// kept. Of several, the first counts.
    pub fn host(broker: &Arc<Broker>, server: &Arc<NameServer>) {
        // Under the catalog's lock, so that no change is folded between the copy and the moment it is told changes.
        let catalog = broker.catalog.read();
        server.restore_kv(catalog.kv.tables.clone());
        server.set_journal(Box::new(LogJournal { broker: Arc::clone(broker) }));
        broker.hosted.0.get_or_init(|| Arc::clone(server));
    }

    /// A change was folded.
    pub fn apply(&self, change: &KvChange) {
        if let Some(server) = self.0.get() {
            server.apply_kv(change);
        }
    }
}

/// Keeps a nameserver's configuration in the broker's log.
struct LogJournal {
    broker: Arc<Broker>,
}

impl KvJournal for LogJournal {
    fn record(&mut self, change: &KvChange) -> Result<Recorded, JournalError> {
        let appended = self.broker.append_one(&KvChanged { change: change.clone() });
        let end = appended.map_err(|error| JournalError::Refused { reason: error.to_string() })?;
        let (broker, mut registration) = (Arc::clone(&self.broker), Registration::default());
        Ok(Recorded::Later(Box::pin(async move {
            let applied = poll_fn(|cx| broker.applied.wait(&mut registration, end, cx.waker())).await;
            applied.map_err(|stopped| JournalError::Unknown { reason: stopped.to_string() })
        })))
    }
}

//! A log whose machines run on threads of their own, for programs that drive nothing by hand.

use std::fmt;
use std::io;
use std::ops::Deref;
use std::sync::Arc;
use std::thread::{self, JoinHandle};

use crate::frontier::{Frontier, OwnFrontier};
use crate::handover::Group;
use crate::poison::Stopped;

use super::{CommitLog, Opened};

/// An open log that is written, kept house for, and folded in the background. Made by [`Opened::run`].
///
/// When this drops the log is closed: what was appended becomes durable, and the threads end before `drop` returns,
/// so that the directory can be opened again.
pub struct Running<T: Send + 'static> {
    log: CommitLog<T>,
    folded: Arc<OwnFrontier>,
    threads: Vec<JoinHandle<()>>,
}

impl<T: Send + 'static> Opened<T> {
    /// Starts three threads: the writer's, the housekeeper's, and one on which `fold` gets each group of this
    /// opening, once and in order, as soon as everybody may see it. What the log held before is not among them: read
    /// that with [`CommitLog::scan`] first.
    ///
    /// Bytes count as staged until `fold` has returned, so a slow one slows appends down. A panic in it poisons the log.
    ///
    /// # Errors
    /// When the system starts no more threads. The log has stopped then.
    pub fn run(self, mut fold: impl FnMut(&Group) + Send + 'static) -> io::Result<Running<T>> {
        let Self { log, writer, housekeeper, groups, .. } = self;
        let folded = Arc::new(OwnFrontier::new(log.visible().get()));
        let mut running = Running { log: log.clone(), folded: Arc::clone(&folded), threads: Vec::new() };
        running.start("log-writer", || writer.run())?;
        running.start("log-housekeeper", || housekeeper.run())?;
        let end = FoldEnd { log, folded };
        running.start("log-fold", move || {
            let FoldEnd { log, folded } = &end;
            log.shared.guard_thread("fold", || {
                while let Some(group) = groups.next_blocking() {
                    fold(&group);
                    folded.publish(group.end);
                    groups.done(&group);
                }
            });
        })?;
        Ok(running)
    }
}

/// Held by the thread that folds: whoever waits for it learns when nothing more will come, a panic included.
struct FoldEnd<T: Send + 'static> {
    log: CommitLog<T>,
    folded: Arc<OwnFrontier>,
}

impl<T: Send + 'static> Drop for FoldEnd<T> {
    fn drop(&mut self) {
        // It has stopped, unless the thread was never started.
        self.log.close();
        self.folded.stop(&self.log.wait_stopped());
    }
}

impl<T: Send + 'static> Running<T> {
    /// End of what has been folded: whoever waits here for [`crate::Appended::end`] finds its append in the state that
    /// `fold` keeps, and safe as [`crate::Options::visibility`] says.
    pub fn folded(&self) -> &Frontier {
        &self.folded
    }

    /// Closes the log, and says how it ended, once its threads have.
    pub fn close(mut self) -> Stopped {
        self.end();
        self.log.wait_stopped()
    }

    fn start(&mut self, name: &str, body: impl FnOnce() + Send + 'static) -> io::Result<()> {
        self.threads.push(thread::Builder::new().name(name.to_owned()).spawn(body)?);
        Ok(())
    }

    fn end(&mut self) {
        self.log.close();
        for thread in self.threads.drain(..) {
            // One that panicked has poisoned the log, which tells everybody.
            thread.join().unwrap_or_default();
        }
    }
}

impl<T: Send + 'static> Deref for Running<T> {
    type Target = CommitLog<T>;

    fn deref(&self) -> &CommitLog<T> {
        &self.log
    }
}

impl<T: Send + 'static> Drop for Running<T> {
    fn drop(&mut self) {
        self.end();
    }
}

impl<T: Send + 'static> fmt::Debug for Running<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Running").field("log", &self.log).field("folded", self.folded()).finish()
    }
}

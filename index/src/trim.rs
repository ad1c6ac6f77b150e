//! Dropping the oldest segment.
//!
//! A queue's minimum rises to the end of its runs there, and its origin goes on behind them; both are read from the
//! segment's file. If that is lost with the segment, the minimum is found by the queue's way from its newest run
//! to the oldest that is left, and of the origin only what that run is linked to: files that are built anew later
//! may then lack jumps into segments that are gone, and nothing else.

use std::sync::Arc;

use skylark_storage::PhysicalOffset;

use crate::directory::{Links, RunRef};
use crate::index::{Index, Origin};
use crate::queue::QueueId;
use crate::sealed::file::{Directory, SealedFile};
use crate::sealed::{SealedError, SealedSegments};
use crate::spine::{DEPTH_MAX, Spine};
use crate::way::Way;

/// What is to be trimmed, to be read without the index's lock; see [`Index::trim_plan`].
pub struct TrimPlan {
    from: Origin,
    to: Origin,
    source: Source,
}

/// What was read for a trim, to be given to [`Index::trim`].
pub struct Trim {
    from: Origin,
    to: Origin,
    minima: Minima,
}

enum Source {
    File(Arc<SealedFile>),
    Ways { segments: SealedSegments, queues: Vec<QueueWay> },
}

enum Minima {
    Directory(Directory),
    Found(Vec<(QueueId, u64, Spine)>),
}

/// How far memory leads along a queue towards the oldest run that is left.
struct QueueWay {
    queue: QueueId,
    oldest: Oldest,
    way: Way,
}

/// The oldest run found so far.
enum Oldest {
    /// None: the queue goes on at this offset, behind this spine.
    None { next: u64, spine: Spine },
    /// One that begins at this offset.
    Run { first: u64, links: Links },
}

impl Index {
    /// What it takes to drop the oldest segment, if it is sealed and ends at or before `to`: call this until it says
    /// no more, each time reading the plan without the index's lock, then giving [`trim`](Self::trim) what it read.
    ///
    /// It may also be what a restart could not find out because files were missing, whatever `to` is; so call it
    /// again when [`missing`](Self::missing) has become empty.
    pub fn trim_plan(&self, to: PhysicalOffset) -> Option<TrimPlan> {
        let oldest = self.sealed.first_number();
        if self.origin.number < oldest {
            let to = Origin { number: oldest, base: self.sealed.start() };
            return Some(self.plan_by_ways(to));
        }
        let span = self.sealed.oldest().filter(|span| span.end <= to)?;
        let to = Origin { number: oldest + 1, base: span.end };
        match self.sealed.file(oldest) {
            Ok(file) => Some(TrimPlan { from: self.origin, to, source: Source::File(Arc::clone(file)) }),
            Err(_) => Some(self.plan_by_ways(to)),
        }
    }

    /// Drops the oldest segment, or makes up for what a restart could not find out. Minima rise to the first message
    /// that is left; a queue whose last message goes keeps its next offset, and its minimum becomes the same.
    ///
    /// The segment's file stays: a snapshot from before knows nothing of this. See
    /// [`remove_below`](crate::remove_below).
    pub fn trim(&mut self, trim: Trim) {
        let Trim { from, to, minima } = trim;
        // A plan is of use once.
        if from != self.origin {
            return;
        }
        match minima {
            Minima::Directory(directory) => self.raise(from.number, &directory),
            Minima::Found(queues) => {
                for (queue, min, spine) in queues {
                    let state = &mut self.queues[queue];
                    // A file's word moves no minimum beyond what the queue has given out.
                    state.min = state.min.max(min.min(state.next));
                    *self.queues.origin_mut(queue) = spine;
                }
            }
        }
        self.origin = to;
        while self.sealed.first_number() < to.number && self.sealed.first_number() < self.sealed.end_number()
        {
            self.sealed.drop_oldest();
        }
    }

    /// Takes note that everything in this segment is trimmed. A run of a queue, of offsets or of a depth that never
    /// were is not believed, whatever its checksum says: then the minimum is lower than it could be, and no more.
    pub(crate) fn raise(&mut self, number: u32, directory: &Directory) {
        for (run, slot) in directory.runs.iter().zip(0..) {
            let topic = directory.topic(run);
            let Some(queue) = topic.and_then(|topic| self.queues.lookup(topic, run.queue_number)) else {
                continue;
            };
            let state = &mut self.queues[queue];
            if run.end() > state.next || run.links.depth >= DEPTH_MAX {
                continue;
            }
            state.min = state.min.max(run.end());
            self.queues.origin_mut(queue).follow(RunRef { segment: number, slot }, run.links);
        }
    }

    fn plan_by_ways(&self, to: Origin) -> TrimPlan {
        let queues = self.queues().map(|queue| {
            let state = &self.queues[queue];
            let mut way = Way::from_newest(state);
            let mut oldest = Oldest::None { next: state.next, spine: Spine::default() };
            while let Some(at) = way.towards(to.number)
                && let Some(run) = self.run(at)
            {
                oldest = Oldest::Run { first: run.first, links: run.links };
                way = way.pass(run);
            }
            if let Oldest::None { spine, .. } = &mut oldest
                && way.towards(to.number).is_none()
            {
                spine.clone_from(&state.spine);
            }
            QueueWay { queue, oldest, way }
        });
        let source = Source::Ways { segments: self.sealed.clone(), queues: queues.collect() };
        TrimPlan { from: self.origin, to, source }
    }
}

impl TrimPlan {
    /// Reads what the trim takes, from the segment's file. If that is missing, from all files that lead to it; so do
    /// this before the records of a missing segment are gone, or after the younger ones were built anew.
    ///
    /// # Errors
    /// When a file that it takes is missing, damaged or cannot be read.
    pub fn read(self) -> Result<Trim, SealedError> {
        let Self { from, to, source } = self;
        let minima = match source {
            Source::File(file) => Minima::Directory(file.directory()?),
            Source::Ways { segments, queues } => {
                let found = queues.into_iter().map(|queue| queue.follow(&segments, to.number));
                Minima::Found(found.collect::<Result<_, _>>()?)
            }
        };
        Ok(Trim { from, to, minima })
    }
}

impl QueueWay {
    /// Goes the rest of the way to the oldest run of a segment from `number` on.
    fn follow(self, segments: &SealedSegments, number: u32) -> Result<(QueueId, u64, Spine), SealedError> {
        let Self { queue, mut oldest, mut way } = self;
        while let Some(at) = way.towards(number)
            && let Some((_, run)) = segments.run(at)?
        {
            oldest = Oldest::Run { first: run.first, links: run.links };
            way = Way::behind(run.first, run.links);
        }
        Ok(match oldest {
            Oldest::None { next, spine } => (queue, next, spine),
            Oldest::Run { first, links } => (queue, first, Spine::before(links)),
        })
    }
}

impl Way {
    /// The next run towards the oldest of a segment from `number` on, if there is a further one.
    fn towards(self, number: u32) -> Option<RunRef> {
        [self.jump, self.at].into_iter().find(|run| run.segment >= number)
    }
}

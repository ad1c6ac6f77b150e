//! Building a segment's file anew, from its records.

use std::io;
use std::sync::Arc;

use skylark_storage::{Files, LogId, PhysicalOffset};

use crate::active::ActiveSegment;
use crate::directory::RunRef;
use crate::index::{Entry, Extras, Index, PushError};
use crate::queue::Queues;
use crate::sealed::file::Directory;
use crate::sealed::segments::SegmentSpan;
use crate::sealed::write::{Names, write};
use crate::sealed::{SealedError, SealedSegment, SealedSegments};

/// What a file is built on: each queue's spine as of the beginning of a segment.
pub(crate) struct Basis {
    number: u32,
    queues: Queues,
}

/// What it takes to build a segment's file anew, to be read without the index's lock; see [`Index::rebuild`].
pub struct RebuildPlan {
    segments: SealedSegments,
    basis: Basis,
    number: u32,
    span: SegmentSpan,
}

/// A segment's index while it is built anew.
pub struct Rebuild {
    queues: Queues,
    segment: ActiveSegment,
    end: PhysicalOffset,
    stored_at: u64,
}

/// Why a segment's file is not built anew now.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RebuildError {
    /// It is trimmed, or in memory.
    #[error("no sealed segment begins at {base}")]
    NotSealed {
        /// What was asked for.
        base: PhysicalOffset,
    },
}

impl Index {
    /// What it takes to build the file of a sealed segment anew. The file will have the same bytes as the first one.
    ///
    /// The files of all older segments are needed, so go in the order of [`missing`](Self::missing), giving each to
    /// [`attach`](Self::attach) before the next. Without the index's lock: [`RebuildPlan::begin`], then
    /// [`Rebuild::push`] for each message of the segment, then [`Rebuild::write`].
    ///
    /// # Errors
    /// When there is no such segment.
    pub fn rebuild(&mut self, base: PhysicalOffset) -> Result<RebuildPlan, RebuildError> {
        let (number, span) = self.sealed.find(base).ok_or(RebuildError::NotSealed { base })?;
        let basis = self.basis.take().filter(|basis| basis.number <= number);
        let basis = basis.unwrap_or_else(|| self.first_basis());
        Ok(RebuildPlan { segments: self.sealed.clone(), basis, number, span })
    }

    /// What the oldest segment's file is built on.
    fn first_basis(&self) -> Basis {
        let mut queues = Queues::new();
        for id in self.queues() {
            if let Some(origin) = self.queues.origin(id) {
                let (topic, number) = self.name(id);
                let queue = queues.register(topic, number);
                queues[queue].spine.clone_from(origin);
            }
        }
        Basis { number: self.sealed.first_number(), queues }
    }
}

impl RebuildPlan {
    /// Reads what the older files say of runs.
    ///
    /// # Errors
    /// When one of them is missing, damaged or cannot be read.
    pub fn begin(self) -> Result<Rebuild, SealedError> {
        let Self { segments, mut basis, number, span } = self;
        for older in basis.number..number {
            let file = segments.file(older)?;
            basis.follow(older, &file.directory()?).ok_or_else(|| file.damaged(0))?;
        }
        let segment = ActiveSegment::new(number, span.base, span.created_at);
        Ok(Rebuild { queues: basis.queues, segment, end: span.end, stored_at: 0 })
    }
}

impl Basis {
    /// Goes on behind a segment; none if its file contradicts itself.
    fn follow(&mut self, number: u32, directory: &Directory) -> Option<()> {
        for (run, slot) in directory.runs.iter().zip(0..) {
            let queue = self.queues.register(directory.topic(run)?, run.queue_number);
            self.queues[queue].spine.follow(RunRef { segment: number, slot }, run.links);
        }
        self.number = number + 1;
        Some(())
    }
}

impl Rebuild {
    /// Adds a message, as [`Index::push`] does, in the same order and with the same extras.
    ///
    /// # Errors
    /// When the message is not of the segment, or does not follow those before.
    pub fn push(
        &mut self,
        topic: &str,
        queue_number: u32,
        entry: Entry,
        extras: Extras<'_>,
    ) -> Result<(), PushError> {
        let (base, last, found) = (self.segment.base(), self.segment.last_record(), entry.physical_offset);
        if found >= self.end {
            return Err(PushError::PhysicalOffset { base, last, found });
        }
        let checked = self.segment.check(self.stored_at, &entry, extras)?;
        let queue = self.queues.register(topic, queue_number);
        let state = &mut self.queues[queue];
        if entry.queue_offset < state.next {
            return Err(PushError::QueueOffset { expected: state.next, found: entry.queue_offset });
        }
        state.append(queue, &mut self.segment, &checked);
        self.stored_at = entry.stored_at;
        Ok(())
    }

    /// Writes the file, in place of what bears its name, and makes it durable.
    ///
    /// # Errors
    /// When the disk refuses.
    pub fn write(mut self, files: &Arc<dyn Files>, log: LogId) -> io::Result<SealedSegment> {
        self.segment.finish(self.end);
        let names = Names::of(&self.segment, &self.queues);
        let file = write(files, log, &self.segment, &names)?;
        let basis = Basis { number: file.summary.number + 1, queues: self.queues };
        Ok(SealedSegment { file: Arc::new(file), basis: Some(basis) })
    }
}

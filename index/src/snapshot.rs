//! What of an index a restart cannot find in its files: the queues.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use skylark_storage::{Files, LogId, PhysicalOffset};

use crate::directory::{FIRST_SEGMENT, RunRef};
use crate::index::{Index, Origin};
use crate::queue::Queues;
use crate::sealed::SealedSegments;
use crate::sealed::file::SealedFile;
use crate::sealed::layout::file_base;
use crate::sealed::segments::SegmentSpan;
use crate::spine::{DEPTH_MAX, Spine};

/// First byte of a snapshot; the rest is this struct as [postcard] encodes it.
///
/// [postcard]: https://postcard.jamesmunns.com/wire-format
const VERSION: u8 = 1;

/// The index in front of a segment.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Snapshot<'a> {
    /// First byte of that segment.
    position: u64,
    /// Its number.
    number: u32,
    /// Time of the newest message before.
    stored_at: u64,
    /// First byte of the segment that minima and origins are as of.
    origin: u64,
    /// Its number.
    origin_number: u32,
    /// Names, each once.
    #[serde(borrow)]
    topics: Vec<&'a str>,
    /// In the order of registration.
    queues: Vec<Queue>,
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Queue {
    /// Place among the topics.
    topic: u32,
    number: u32,
    min: u64,
    next: u64,
    newest: Runs,
    origin: Runs,
}

/// A [`Spine`].
#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Runs {
    depth: u32,
    runs: Vec<RunRef>,
}

/// Why an index was not restored. Nothing was changed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RestoreError {
    /// Written by another release.
    #[error("version {found} of the index's snapshot is not {VERSION}, the only one this release reads")]
    Version {
        /// The snapshot's first byte; none if it is empty.
        found: u8,
    },
    /// The bytes are no snapshot.
    #[error("the index's snapshot is malformed: {cause}")]
    Malformed {
        /// What did not fit.
        cause: postcard::Error,
    },
    /// The snapshot contradicts itself.
    #[error("the index's snapshot contradicts itself")]
    Contradiction,
    /// The log's segments are not those that the snapshot counted.
    #[error(
        "the log has {found} segments from {origin} to {position}, the index's snapshot has counted up to {counted}"
    )]
    Segments {
        /// Where the snapshot's oldest segment began.
        origin: PhysicalOffset,
        /// Where the snapshot was taken.
        position: PhysicalOffset,
        /// How many segments of the snapshot's span the log has, in one piece up to its end.
        found: usize,
        /// How many there were.
        counted: u32,
    },
    /// The disk refused.
    #[error("index files cannot be opened: {0}")]
    Io(#[from] io::Error),
}

impl Index {
    /// The state of all queues in front of the newest segment; equal states give equal bytes. Of use once everything
    /// before that segment is sealed.
    ///
    /// # Panics
    /// When something was pushed to the newest segment: take a snapshot behind
    /// [`begin_segment`](Self::begin_segment), before the first push.
    pub fn snapshot(&self) -> Vec<u8> {
        let newest = self.active.as_ref();
        assert!(
            newest.is_none_or(|newest| newest.len() == 0),
            "a snapshot is taken at a segment's beginning"
        );
        let queues = self.queues().map(|queue| {
            let state = &self.queues[queue];
            let (topic, number) = state.name();
            let origin = self.queues.origin(queue);
            Queue {
                topic,
                number,
                min: state.min,
                next: state.next,
                newest: Runs::of(&state.spine),
                origin: origin.map_or(Runs { depth: 0, runs: Vec::new() }, Runs::of),
            }
        });
        let snapshot = Snapshot {
            position: newest.map_or(self.sealed.end(), |newest| newest.base()).get(),
            number: newest.map_or_else(|| self.next_number(), |newest| newest.number()),
            stored_at: self.stored_at,
            origin: self.origin.base.get(),
            origin_number: self.origin.number,
            topics: self.queues.topics().iter().map(|topic| &**topic).collect(),
            queues: queues.collect(),
        };
        postcard::to_extend(&snapshot, vec![VERSION]).expect("a struct of plain fields has an encoding")
    }

    /// The index as of a snapshot, with the files that are there. `segments` are the log's, oldest first; those from
    /// the snapshot's position on are to be begun and pushed again.
    ///
    /// Opens the file of each segment and reads its header; those that are not there or not sound are
    /// [`missing`](Self::missing). Segments that were trimmed since the snapshot are trimmed again.
    ///
    /// # Errors
    /// When the snapshot is not of this log, is damaged, or the disk refuses.
    pub fn restore(
        snapshot: &[u8],
        files: &Arc<dyn Files>,
        log: LogId,
        segments: &[SegmentSpan],
    ) -> Result<Self, RestoreError> {
        let snapshot = Snapshot::decode(snapshot)?;
        let queues = snapshot.queues().ok_or(RestoreError::Contradiction)?;
        let live = snapshot.live(segments)?;
        let position = PhysicalOffset::new(snapshot.position);
        // The log has as many segments as it has, and the newest of them is numbered.
        let first = snapshot.number - u32::try_from(live.len()).unwrap_or(u32::MAX);
        let mut sealed = SealedSegments::new(first, live.first().map_or(position, |span| span.base));
        for (span, number) in live.iter().zip(first..) {
            let file = SealedFile::open(files, log, span.base)?;
            let fits = |file: &SealedFile| {
                let summary = &file.summary;
                summary.number == number && summary.end == span.end && summary.created_at == span.created_at
            };
            match file.filter(fits) {
                Some(file) => sealed.push(Arc::new(file)),
                None => sealed.push_missing(*span),
            }
        }
        let mut index = Self {
            queues,
            sealed,
            stored_at: snapshot.stored_at,
            origin: Origin { number: snapshot.origin_number, base: PhysicalOffset::new(snapshot.origin) },
            ..Self::new()
        };
        index.trim_again(files, log)?;
        Ok(index)
    }

    /// Drops what the snapshot still had and the log has no more, by the files that are left of it.
    fn trim_again(&mut self, files: &Arc<dyn Files>, log: LogId) -> io::Result<()> {
        let mut bases: Vec<PhysicalOffset> =
            files.list("log")?.iter().filter_map(|name| file_base(name)).collect();
        bases.sort_unstable();
        for base in bases {
            if base != self.origin.base || self.origin.number >= self.sealed.first_number() {
                continue;
            }
            let file =
                SealedFile::open(files, log, base)?.filter(|file| file.summary.number == self.origin.number);
            let Some(file) = file else { break };
            let Ok(directory) = file.directory() else { break };
            self.raise(self.origin.number, &directory);
            self.origin = Origin { number: self.origin.number + 1, base: file.summary.end };
        }
        // What is left, by the files of the segments that are there; if some are missing, later.
        if self.origin.number < self.sealed.first_number()
            && let Some(Ok(trim)) = self.trim_plan(PhysicalOffset::ZERO).map(|plan| plan.read())
        {
            self.trim(trim);
        }
        Ok(())
    }
}

/// The lowest base of an index file that a restart from this snapshot may read: from there on, files are kept for as
/// long as the snapshot is.
///
/// # Errors
/// When this is no snapshot.
pub fn needed_from(snapshot: &[u8]) -> Result<PhysicalOffset, RestoreError> {
    Ok(PhysicalOffset::new(Snapshot::decode(snapshot)?.origin))
}

impl<'a> Snapshot<'a> {
    fn decode(bytes: &'a [u8]) -> Result<Self, RestoreError> {
        match bytes.split_first() {
            Some((&VERSION, bytes)) => match postcard::take_from_bytes(bytes) {
                Ok((snapshot, [])) => Ok(snapshot),
                Ok(_) => Err(RestoreError::Contradiction),
                Err(cause) => Err(RestoreError::Malformed { cause }),
            },
            Some((&found, _)) => Err(RestoreError::Version { found }),
            None => Err(RestoreError::Version { found: 0 }),
        }
    }

    /// The queues, if they make sense.
    fn queues(&self) -> Option<Queues> {
        let counted = FIRST_SEGMENT <= self.origin_number && self.origin_number <= self.number;
        if !counted
            || self.origin > self.position
            || (self.origin == self.position) != (self.origin_number == self.number)
        {
            return None;
        }
        let mut queues = Queues::new();
        // Topics keep their order, which is not always that of the queues.
        let mut places = BTreeMap::new();
        for (place, topic) in self.topics.iter().enumerate() {
            if places.insert(*topic, place).is_some() {
                return None;
            }
            queues.intern(topic);
        }
        for (place, queue) in self.queues.iter().enumerate() {
            let id = queues.register(self.topics.get(queue.topic as usize)?, queue.number);
            // One name twice has one id.
            if id.get() as usize != place || queue.min > queue.next || queue.next > OFFSET_MAX {
                return None;
            }
            let origin = queue.origin.spine(self.origin_number)?;
            let state = &mut queues[id];
            (state.min, state.next) = (queue.min, queue.next);
            state.spine = queue.newest.spine(self.number)?;
            if origin.depth() > 0 {
                *queues.origin_mut(id) = origin;
            }
        }
        Some(queues)
    }

    /// The segments of the log that the snapshot covers: in one piece, up to its position, as many as were counted
    /// or fewer.
    fn live<'s>(&self, segments: &'s [SegmentSpan]) -> Result<&'s [SegmentSpan], RestoreError> {
        let (origin, position) = (PhysicalOffset::new(self.origin), PhysicalOffset::new(self.position));
        let start = segments.partition_point(|span| span.base < origin);
        let end = segments.partition_point(|span| span.base < position);
        let live = segments.get(start..end).unwrap_or_default();
        let follow = live.windows(2).all(|pair| pair[0].end == pair[1].base);
        let reach = live.last().is_none_or(|last| last.end == position)
            && live.iter().all(|span| span.base < span.end);
        let counted = self.number - self.origin_number;
        let complete =
            live.first().is_none_or(|first| (first.base == origin) == (live.len() == counted as usize));
        if follow && reach && complete && live.len() <= counted as usize {
            Ok(live)
        } else {
            Err(RestoreError::Segments { origin, position, found: live.len(), counted })
        }
    }
}

/// No queue gets there, so that there is always a next offset.
const OFFSET_MAX: u64 = u64::MAX >> 1;

impl Runs {
    fn of(spine: &Spine) -> Self {
        Self { depth: spine.depth(), runs: spine.runs().to_vec() }
    }

    /// The spine, if all its runs are in segments before `number`, and each behind the one before. If the newest was
    /// trimmed, so were those before it.
    fn spine(&self, number: u32) -> Option<Spine> {
        let place = |run: &RunRef| (run.segment, run.slot);
        let known = self.runs.iter().filter(|run| **run != RunRef::NONE);
        let ordered = known.clone().is_sorted_by(|one, other| place(one) < place(other));
        let sealed = known.clone().all(|run| run.segment < number);
        let deep = self.depth < DEPTH_MAX;
        let led = self.runs.last().is_none_or(|newest| *newest != RunRef::NONE) || known.count() == 0;
        if ordered && sealed && deep && led { Spine::new(self.depth, &self.runs) } else { None }
    }
}

#[cfg(test)]
mod tests;

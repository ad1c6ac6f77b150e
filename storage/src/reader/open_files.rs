//! The segment files that were read last, open.

use std::io;
use std::sync::Arc;

use crate::device::{Advice, File, Files};
use crate::offset::PhysicalOffset;
use crate::segment::segment_name;
use crate::sync::Mutex;

/// Opens segments for readers, and keeps the last ones open.
pub(super) struct OpenFiles {
    files: Arc<dyn Files>,
    kept: Mutex<Kept>,
}

#[derive(Default)]
struct Kept {
    /// Newest use last.
    segments: Vec<(PhysicalOffset, Arc<dyn File>)>,
    /// No segment below this is kept open: its file would take space for as long.
    beginning: PhysicalOffset,
}

/// How many files stay open for readers.
const OPEN_FILES_MAX: usize = 16;

impl OpenFiles {
    pub(super) fn new(files: Arc<dyn Files>) -> Self {
        Self { files, kept: Mutex::new(Kept::default()) }
    }

    /// The file of the segment that begins at `base`.
    pub(super) fn get(&self, base: PhysicalOffset) -> io::Result<Arc<dyn File>> {
        {
            let Kept { segments, .. } = &mut *self.kept.lock();
            if let Some(index) = segments.iter().position(|(of, _)| *of == base) {
                let entry = segments.remove(index);
                let file = Arc::clone(&entry.1);
                segments.push(entry);
                return Ok(file);
            }
        }
        // Not under the lock, which others need for files that are open.
        let file = self.files.open(&segment_name(base))?;
        // Only where reads follow each other does the system read on, so that lookups may share the description.
        file.advise(0, 0, Advice::Sequential);
        let Kept { segments, beginning } = &mut *self.kept.lock();
        if base >= *beginning {
            if segments.len() == OPEN_FILES_MAX {
                segments.remove(0);
            }
            segments.push((base, Arc::clone(&file)));
        }
        Ok(file)
    }

    /// Closes the files of the segments below `beginning`, for good.
    pub(super) fn trim(&self, beginning: PhysicalOffset) {
        let mut kept = self.kept.lock();
        kept.segments.retain(|(base, _)| *base >= beginning);
        kept.beginning = beginning;
    }
}

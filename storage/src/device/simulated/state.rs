//! The disk behind its lock: names, files, and what was asked to go wrong.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::ops::Range;
use std::time::Duration;

use rand::{RngExt, SeedableRng};
use rand_pcg::Pcg64Mcg;
use rustix::io::Errno;

use super::contents::{Contents, Odds};

/// Names a file whatever its names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct NodeId(u64);

#[derive(Clone, Default)]
struct Node {
    contents: Contents,
    /// Open descriptions.
    holders: u64,
    /// Bytes that the medium does not give back.
    unreadable: Vec<Range<u64>>,
}

impl Node {
    /// What is written is put to another place of the medium.
    fn heal(&mut self, written: Range<u64>) {
        let left = |worn: &Range<u64>| {
            [worn.start..worn.end.min(written.start), worn.start.max(written.end)..worn.end]
        };
        self.unreadable = self.unreadable.iter().flat_map(left).filter(|worn| !worn.is_empty()).collect();
    }
}

/// A change of names that [`State::sync_directory`] has not made durable.
#[derive(Clone)]
enum Change {
    Link { name: String, node: NodeId },
    Unlink { name: String },
    Rename { from: String, to: String, node: NodeId },
}

impl Change {
    fn directory(&self) -> &str {
        match self {
            Self::Link { name, .. } | Self::Unlink { name } | Self::Rename { to: name, .. } => {
                directory_of(name)
            }
        }
    }

    fn apply(&self, names: &mut BTreeMap<String, NodeId>) {
        match self {
            Self::Link { name, node } => {
                names.insert(name.clone(), *node);
            }
            Self::Unlink { name } => {
                names.remove(name);
            }
            Self::Rename { from, to, node } => {
                if names.get(from) == Some(node) {
                    names.remove(from);
                }
                names.insert(to.clone(), *node);
            }
        }
    }
}

/// What was asked to go wrong.
#[derive(Default)]
pub(super) struct Faults {
    pub(super) power_off: Option<u64>,
    pub(super) fail_write: Option<u64>,
    pub(super) shorten_write: Option<u64>,
    pub(super) refuse_write: Option<u64>,
    pub(super) fail_flush: Option<u64>,
    pub(super) fail_names: Option<u64>,
    pub(super) space_left: Option<u64>,
    pub(super) flushes_lie: bool,
    pub(super) delay_max: Duration,
}

pub(super) struct State {
    rng: Pcg64Mcg,
    nodes: BTreeMap<NodeId, Node>,
    next_node: u64,
    names: BTreeMap<String, NodeId>,
    durable_names: BTreeMap<String, NodeId>,
    changes: Vec<Change>,
    locks: BTreeSet<String>,
    pub(super) operations: u64,
    pub(super) faults: Faults,
    pub(super) tears_destroy: bool,
    pub(super) flushes_narrow: bool,
}

/// Whether an operation is the one that the power fails in.
#[derive(PartialEq)]
enum Power {
    Stays,
    Fails,
}

impl State {
    pub(super) fn new(seed: u64) -> Self {
        Self {
            rng: Pcg64Mcg::seed_from_u64(seed),
            nodes: BTreeMap::new(),
            next_node: 0,
            names: BTreeMap::new(),
            durable_names: BTreeMap::new(),
            changes: Vec::new(),
            locks: BTreeSet::new(),
            operations: 0,
            faults: Faults::default(),
            tears_destroy: false,
            flushes_narrow: false,
        }
    }

    pub(super) fn reseed(&mut self, seed: u64) {
        self.rng = Pcg64Mcg::seed_from_u64(seed);
    }

    pub(super) fn crash(&mut self) -> Self {
        let mut after = self.kill();
        let odds = self.odds();
        let journal = self.rng.random_bool(0.5);
        let kept = self.rng.random_range(..=self.changes.len());
        for (index, change) in after.changes.drain(..).enumerate() {
            if if journal { index < kept } else { self.rng.random_bool(0.5) } {
                change.apply(&mut after.durable_names);
            }
        }
        after.names = after.durable_names.clone();
        for node in after.nodes.values_mut() {
            node.contents.crash(&mut after.rng, odds);
        }
        after.drop_unreachable();
        after
    }

    pub(super) fn kill(&mut self) -> Self {
        let mut after = Self {
            rng: Pcg64Mcg::seed_from_u64(self.rng.random()),
            nodes: self.nodes.clone(),
            next_node: self.next_node,
            names: self.names.clone(),
            durable_names: self.durable_names.clone(),
            changes: self.changes.clone(),
            locks: BTreeSet::new(),
            operations: 0,
            faults: Faults::default(),
            tears_destroy: self.tears_destroy,
            flushes_narrow: self.flushes_narrow,
        };
        after.nodes.values_mut().for_each(|node| node.holders = 0);
        after.drop_unreachable();
        after
    }

    pub(super) fn choose(&mut self, among: usize) -> usize {
        self.rng.random_range(..among)
    }

    pub(super) fn names(&self) -> Vec<&str> {
        self.names.keys().map(String::as_str).collect()
    }

    pub(super) fn list(&mut self, directory: &str) -> io::Result<Vec<String>> {
        self.powered()?;
        self.fail_names()?;
        let below = |name: &String| {
            let rest =
                if directory.is_empty() { name } else { name.strip_prefix(directory)?.strip_prefix('/')? };
            // A directory is listed by the names in it.
            rest.split('/').next().map(str::to_owned)
        };
        let names: BTreeSet<String> = self.names.keys().filter_map(below).collect();
        Ok(names.into_iter().collect())
    }

    pub(super) fn has(&self, name: &str) -> bool {
        self.names.contains_key(name)
    }

    pub(super) fn open(&self, name: &str) -> io::Result<NodeId> {
        self.powered()?;
        let missing = || io::Error::new(io::ErrorKind::NotFound, format!("{name}: no such file"));
        self.names.get(name).copied().ok_or_else(missing)
    }

    pub(super) fn create(&mut self, name: &str) -> io::Result<NodeId> {
        self.powered()?;
        if self.has(name) {
            return Err(io::Error::new(io::ErrorKind::AlreadyExists, format!("{name}: exists already")));
        }
        self.fail_names()?;
        // A directory may have to grow for a name; one that changes its name takes the old one's place.
        if self.faults.space_left == Some(0) {
            return Err(io::ErrorKind::StorageFull.into());
        }
        let node = NodeId(self.next_node);
        self.next_node += 1;
        self.nodes.insert(node, Node::default());
        self.change(Change::Link { name: name.to_owned(), node })?;
        Ok(node)
    }

    pub(super) fn rename(&mut self, from: &str, to: &str) -> io::Result<()> {
        let node = self.open(from)?;
        self.fail_names()?;
        self.change(Change::Rename { from: from.to_owned(), to: to.to_owned(), node })
    }

    pub(super) fn remove(&mut self, name: &str) -> io::Result<()> {
        self.open(name)?;
        self.fail_names()?;
        self.change(Change::Unlink { name: name.to_owned() })
    }

    pub(super) fn sync_directory(&mut self, directory: &str) -> io::Result<()> {
        if self.begin()? == Power::Fails {
            return Err(power_is_off());
        }
        self.fail_names()?;
        let durable_names = &mut self.durable_names;
        self.changes.retain(|change| {
            let covered = change.directory() == directory;
            if covered {
                change.apply(durable_names);
            }
            !covered
        });
        self.drop_unreachable();
        Ok(())
    }

    pub(super) fn lock(&mut self, name: &str) -> io::Result<()> {
        self.powered()?;
        if self.locks.insert(name.to_owned()) {
            Ok(())
        } else {
            Err(io::Error::new(io::ErrorKind::WouldBlock, format!("{name}: locked already")))
        }
    }

    pub(super) fn unlock(&mut self, name: &str) {
        self.locks.remove(name);
    }

    pub(super) fn hold(&mut self, node: NodeId) {
        self.node(node).holders += 1;
    }

    pub(super) fn release(&mut self, node: NodeId) {
        let node = self.node(node);
        node.holders -= 1;
        if node.holders == 0 {
            self.drop_unreachable();
        }
    }

    pub(super) fn read(&self, node: NodeId, at: u64, buffer: &mut [u8]) -> io::Result<usize> {
        self.powered()?;
        let node = &self.nodes[&node];
        let end = at.saturating_add(buffer.len() as u64).min(node.contents.len());
        if node.unreadable.iter().any(|range| range.start < end && at < range.end) {
            return Err(Errno::IO.into());
        }
        Ok(node.contents.read(at, buffer))
    }

    pub(super) fn fail_reads(&mut self, name: &str, range: Range<u64>) -> io::Result<()> {
        let node = self.open(name)?;
        self.node(node).unreadable.push(range);
        Ok(())
    }

    pub(super) fn heal_reads(&mut self) {
        self.nodes.values_mut().for_each(|node| node.unreadable.clear());
    }

    pub(super) fn len(&self, node: NodeId) -> io::Result<u64> {
        self.powered()?;
        Ok(self.nodes[&node].contents.len())
    }

    pub(super) fn write(&mut self, node: NodeId, at: u64, pieces: &[&[u8]]) -> io::Result<()> {
        let power = self.begin()?;
        let bytes: usize = pieces.iter().map(|piece| piece.len()).sum();
        // As the kernel has it: no file reaches 2^63.
        if at.checked_add(bytes as u64).is_none_or(|end| end > i64::MAX as u64) {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        if let Some(left) = self.faults.space_left {
            let missing = self.node(node).contents.missing_bytes(at, bytes);
            if missing > left {
                return Err(io::ErrorKind::StorageFull.into());
            }
            self.faults.space_left = Some(left - missing);
        }
        let fails = counts_down(&mut self.faults.fail_write);
        let falls_short = counts_down(&mut self.faults.shorten_write) && bytes > 1;
        // A flush alone writes nothing that could need space.
        let is_refused = bytes > 0 && counts_down(&mut self.faults.refuse_write);
        let mut left = if falls_short {
            1 + self.choose(bytes - 1)
        } else if fails || is_refused {
            // A write that fails may have done its beginning.
            self.choose(bytes + 1)
        } else {
            bytes
        };
        let contents = &mut self.node(node).contents;
        let (start, mut at) = (at, at);
        for piece in pieces {
            let part = &piece[..left.min(piece.len())];
            contents.write(at, part);
            left -= part.len();
            at += part.len() as u64;
        }
        self.node(node).heal(start..at);
        match power {
            Power::Fails => Err(power_is_off()),
            Power::Stays if falls_short => Err(io::ErrorKind::WriteZero.into()),
            Power::Stays if fails => Err(io::Error::other("the write failed (simulated)")),
            Power::Stays if is_refused => Err(io::ErrorKind::StorageFull.into()),
            Power::Stays => Ok(()),
        }
    }

    pub(super) fn set_len(&mut self, node: NodeId, bytes: u64) -> io::Result<()> {
        let power = self.begin()?;
        if i64::try_from(bytes).is_err() {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        let contents = &mut self.node(node).contents;
        let held_before = contents.held_bytes();
        contents.set_len(bytes);
        let freed_bytes = held_before - contents.held_bytes();
        if let Some(left) = &mut self.faults.space_left {
            *left += freed_bytes;
        }
        if power == Power::Fails { Err(power_is_off()) } else { Ok(()) }
    }

    /// Flushes a file, for a device that has written these ranges of it.
    pub(super) fn flush(&mut self, node: NodeId, written: Option<&[Range<u64>]>) -> io::Result<()> {
        if self.begin()? == Power::Fails {
            return Err(power_is_off());
        }
        if counts_down(&mut self.faults.fail_flush) {
            let odds = self.odds();
            let Self { rng, nodes, .. } = self;
            if let Some(node) = nodes.get_mut(&node) {
                node.contents.flush_in_vain(rng, odds);
            }
            return Err(io::Error::other("the flush failed (simulated)"));
        }
        if !self.faults.flushes_lie {
            let written = written.filter(|_| self.flushes_narrow);
            let contents = &mut self.node(node).contents;
            match written {
                Some(ranges) => contents.flush_ranges(ranges),
                None => contents.flush(),
            }
        }
        Ok(())
    }

    pub(super) fn flip_bit(&mut self, name: &str, at: u64, bit: u8) -> io::Result<()> {
        let node = self.open(name)?;
        let contents = &mut self.node(node).contents;
        if at >= contents.len() {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        contents.flip_bit(at, bit);
        Ok(())
    }

    fn node(&mut self, node: NodeId) -> &mut Node {
        self.nodes.get_mut(&node).expect("a file lives while somebody holds it open")
    }

    fn change(&mut self, change: Change) -> io::Result<()> {
        let power = self.begin()?;
        change.apply(&mut self.names);
        self.changes.push(change);
        if power == Power::Fails { Err(power_is_off()) } else { Ok(()) }
    }

    /// Whether names are what goes wrong now.
    fn fail_names(&mut self) -> io::Result<()> {
        if counts_down(&mut self.faults.fail_names) {
            Err(io::Error::other("the directory failed (simulated)"))
        } else {
            Ok(())
        }
    }

    /// How long the next operation of a device takes.
    pub(super) fn delay(&mut self) -> Duration {
        let delay_max = self.faults.delay_max;
        if delay_max.is_zero() { delay_max } else { delay_max.mul_f64(self.rng.random()) }
    }

    /// Counts an operation.
    fn begin(&mut self) -> io::Result<Power> {
        self.powered()?;
        self.operations += 1;
        Ok(if self.faults.power_off == Some(self.operations) { Power::Fails } else { Power::Stays })
    }

    pub(super) fn has_power(&self) -> bool {
        self.faults.power_off.is_none_or(|last| self.operations < last)
    }

    fn powered(&self) -> io::Result<()> {
        if self.has_power() { Ok(()) } else { Err(power_is_off()) }
    }

    fn odds(&mut self) -> Odds {
        const LOST: [f64; 5] = [0.0, 0.1, 0.5, 0.9, 1.0];
        let lost = LOST[self.choose(LOST.len())];
        Odds { lost, destroyed: if self.tears_destroy { 0.1 } else { 0.0 } }
    }

    fn drop_unreachable(&mut self) {
        let Self { names, durable_names, changes, nodes, faults, .. } = self;
        let pending = changes.iter().filter_map(|change| match change {
            Change::Link { node, .. } | Change::Rename { node, .. } => Some(*node),
            Change::Unlink { .. } => None,
        });
        let reachable: BTreeSet<NodeId> =
            names.values().chain(durable_names.values()).copied().chain(pending).collect();
        nodes.retain(|id, node| {
            let stays = node.holders > 0 || reachable.contains(id);
            if let Some(left) = faults.space_left.as_mut().filter(|_| !stays) {
                *left += node.contents.held_bytes();
            }
            stays
        });
    }
}

/// Whether this is the one that was asked to fail.
fn counts_down(countdown: &mut Option<u64>) -> bool {
    match countdown {
        Some(1) => {
            *countdown = None;
            true
        }
        Some(left) => {
            *left -= 1;
            false
        }
        None => false,
    }
}

fn directory_of(name: &str) -> &str {
    name.rsplit_once('/').map_or("", |(directory, _)| directory)
}

fn power_is_off() -> io::Error {
    io::Error::other("the power is off (simulated)")
}

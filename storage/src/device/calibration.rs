//! What a measurement of the devices came to, and the file that remembers it.

use std::fmt::Write as _;
use std::io;
use std::time::Duration;

use crc32c::crc32c;

use super::Files;
use super::directory::Directory;
use super::kind::DeviceKind;
use super::probe::{GROUP_BYTES, Measured};

/// What was measured, where, and what follows from it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Calibration {
    /// What the figures hold for.
    pub machine: Machine,
    /// Every device of the build, in the order of [`DeviceKind::ALL`].
    pub measured: Vec<Measured>,
    /// When, in milliseconds since 1970.
    pub measured_at: u64,
    /// The device whose worst distance from the best of any group size is the least.
    pub choice: DeviceKind,
}

/// What a measurement depends on, besides the disk.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Machine {
    /// Version of this crate.
    pub release: String,
    /// Release of the kernel.
    pub kernel: String,
    /// The id of the segments' file system, as `statvfs` tells it.
    pub file_system: u64,
}

impl Machine {
    pub(super) fn current(directory: &Directory) -> io::Result<Self> {
        let kernel = rustix::system::uname().release().to_string_lossy().split_whitespace().collect();
        Ok(Self {
            release: env!("CARGO_PKG_VERSION").to_owned(),
            kernel,
            file_system: file_system(directory)?,
        })
    }
}

/// Of the segments, which may lie elsewhere than the rest of the directory; of the directory before there are any.
fn file_system(directory: &Directory) -> io::Result<u64> {
    let found = match rustix::fs::statvfs(directory.path("log")) {
        Err(rustix::io::Errno::NOENT) => rustix::fs::statvfs(directory.path("")),
        found => found,
    };
    Ok(found?.f_fsid)
}

/// Relative to the data directory.
const NAME: &str = "DEVICE";
/// Where it is written before it replaces the one before.
const NEW_NAME: &str = "DEVICE.tmp";
const TITLE: &str = "skylark-storage device calibration 2";
/// No record is longer; a longer file is none.
const BYTES_MAX: u64 = 16 << 10;
/// Who is in use stays within so many percent of the best: less is chance.
const MARGIN_PERCENT: u128 = 5;
/// Disks age, and what else uses them changes.
const VALID_MS: u64 = 7 * 24 * 3_600_000;

impl Calibration {
    /// Chooses from figures; `incumbent` is what has been in use.
    pub(super) fn new(
        machine: Machine,
        measured: Vec<Measured>,
        measured_at: u64,
        incumbent: DeviceKind,
    ) -> Self {
        let choice = choose(&measured, incumbent);
        Self { machine, measured, measured_at, choice }
    }

    /// Whether it is too old to go by at `now`, in milliseconds since 1970. One from the future is: the clock was wrong
    /// then or is now, so nobody knows how old it is.
    pub(super) fn is_outdated(&self, now: u64) -> bool {
        now.checked_sub(self.measured_at).is_none_or(|age_ms| age_ms >= VALID_MS)
    }

    /// What was measured, for a person.
    pub(super) fn figures(&self) -> String {
        let figures: Vec<String> = self.measured.iter().map(Measured::to_string).collect();
        figures.join("; ")
    }

    /// What the directory remembers. A record that cannot be read is as good as none: measuring makes another.
    pub(super) fn load(directory: &Directory) -> Option<Self> {
        let file = directory.open(NAME).ok()?;
        let bytes = file.len().ok().filter(|bytes| *bytes <= BYTES_MAX)?;
        let mut text = vec![0; usize::try_from(bytes).ok()?];
        let read = file.read_at(0, &mut text).ok()?;
        Self::parse(std::str::from_utf8(&text[..read]).ok()?)
    }

    /// Replaces what the directory remembers.
    pub(super) fn store(&self, directory: &Directory) -> io::Result<()> {
        let file = match directory.create(NEW_NAME) {
            // One that was not finished.
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                directory.remove(NEW_NAME)?;
                directory.create(NEW_NAME)?
            }
            created => created?,
        };
        file.write_at(0, self.to_text().as_bytes())?;
        file.sync()?;
        directory.rename(NEW_NAME, NAME)?;
        directory.sync_directory("")
    }

    /// One line for each fact; the last is a checksum of those before.
    fn to_text(&self) -> String {
        let Self { machine: Machine { release, kernel, file_system }, measured, measured_at, choice } = self;
        let mut text = format!(
            "{TITLE}\nrelease {release}\nkernel {kernel}\nfile-system {file_system:x}\nmeasured-at {measured_at}\n"
        );
        for Measured { kind, medians } in measured {
            match medians {
                Ok(medians) => {
                    write!(text, "nanoseconds {kind}").expect("strings take everything");
                    for (bytes, median) in GROUP_BYTES.iter().zip(medians) {
                        write!(text, " {bytes}={}", median.as_nanos()).expect("strings take everything");
                    }
                    text.push('\n');
                }
                Err(reason) => {
                    let reason: Vec<&str> = reason.split_whitespace().collect();
                    writeln!(text, "unusable {kind} {}", reason.join(" ")).expect("strings take everything");
                }
            }
        }
        writeln!(text, "choice {choice}").expect("strings take everything");
        let crc = crc32c(text.as_bytes());
        writeln!(text, "crc32c {crc:08x}").expect("strings take everything");
        text
    }

    fn parse(text: &str) -> Option<Self> {
        let (body, crc) = text.strip_suffix('\n')?.rsplit_once("crc32c ")?;
        if u32::from_str_radix(crc, 16) != Ok(crc32c(body.as_bytes())) {
            return None;
        }
        let mut lines = body.lines();
        if lines.next()? != TITLE {
            return None;
        }
        let mut fact = |key: &str| lines.next()?.strip_prefix(key)?.strip_prefix(' ');
        let machine = Machine {
            release: fact("release")?.to_owned(),
            kernel: fact("kernel")?.to_owned(),
            file_system: u64::from_str_radix(fact("file-system")?, 16).ok()?,
        };
        let measured_at = fact("measured-at")?.parse().ok()?;
        let (mut measured, mut choice) = (Vec::new(), None);
        for line in lines {
            let (key, value) = line.split_once(' ')?;
            match key {
                "nanoseconds" => measured.push(parse_medians(value)?),
                "unusable" => {
                    let (kind, reason) = value.split_once(' ')?;
                    measured.push(Measured { kind: kind.parse().ok()?, medians: Err(reason.to_owned()) });
                }
                "choice" => choice = Some(value.parse().ok()?),
                _ => return None,
            }
        }
        Some(Self { machine, measured, measured_at, choice: choice? })
    }
}

fn parse_medians(text: &str) -> Option<Measured> {
    let mut words = text.split(' ');
    let kind = words.next()?.parse().ok()?;
    let mut medians = [Duration::ZERO; GROUP_BYTES.len()];
    for (bytes, median) in GROUP_BYTES.iter().zip(&mut medians) {
        let (size, nanoseconds) = words.next()?.split_once('=')?;
        if size.parse() != Ok(*bytes) {
            return None;
        }
        *median = Duration::from_nanos(nanoseconds.parse().ok()?);
    }
    words.next().is_none().then_some(Measured { kind, medians: Ok(medians) })
}

/// The device whose worst distance from the best, over all group sizes, is the least: one that is never far behind
/// serves both a lone sender and a crowd.
fn choose(measured: &[Measured], incumbent: DeviceKind) -> DeviceKind {
    let usable = || measured.iter().filter_map(|m| Some((m.kind, m.medians.as_ref().ok()?)));
    let best = |size: usize| usable().map(|(_, medians)| medians[size]).min().unwrap_or_default();
    // In percent: 100 is the best there is.
    let distance = |medians: &[Duration; GROUP_BYTES.len()]| {
        (0..medians.len()).map(|size| medians[size].as_nanos() * 100 / best(size).as_nanos().max(1)).max()
    };
    let least = usable().min_by_key(|(_, medians)| distance(medians));
    let Some((kind, least)) = least.map(|(kind, medians)| (kind, distance(medians))) else {
        return DeviceKind::Buffered;
    };
    let incumbent = usable().find(|(kind, _)| *kind == incumbent);
    match incumbent.map(|(kind, medians)| (kind, distance(medians))) {
        Some((incumbent, distance)) if distance <= least.map(|least| least + MARGIN_PERCENT) => incumbent,
        _ => kind,
    }
}

#[cfg(test)]
mod tests;

//! `skylark log repair`: a log that no broker opens is cut at its damage.

use std::fmt;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use skylark_storage::clock::SystemClock;
use skylark_storage::device::Directory;
use skylark_storage::device::read_only::ReadOnlyDirectory;
use skylark_storage::inspect::{InspectError, Inspection};
use skylark_storage::recovery::{RecoveryOptions, preview};
use skylark_storage::{CommitLog, OpenError, Opened, Options, PhysicalOffset, RecoveryReport, Stopped};

use super::threads;
use crate::cli::Failure;

/// What `skylark log repair` takes.
#[derive(clap::Args)]
pub(super) struct Args {
    /// The data directory: what `skylark serve` calls its store
    #[arg(value_name = "DIR")]
    directory: PathBuf,

    /// Only say what would be kept and given up: exit code 0 if nothing is to be repaired, 1 if something is
    #[arg(long)]
    dry_run: bool,

    /// Give up everything from the first damage at or behind this offset of the log on, although the log can be opened:
    /// for a broker that says that it cannot read the log there
    #[arg(long, value_name = "OFFSET")]
    cut_at: Option<u64>,
}

/// The command that repairs the log in a directory, for whoever is told that it cannot be used.
pub(in crate::cli) struct Command<'a> {
    /// The data directory.
    pub(in crate::cli) directory: &'a Path,
}

impl fmt::Display for Command<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "skylark log repair {}", self.directory.display())
    }
}

pub(super) fn run(args: &Args) -> Result<ExitCode, Failure> {
    let (expected, damaged_at) = look(args)?;
    let mut out = std::io::stdout().lock();
    if expected.repaired.is_none() {
        writeln!(out, "nothing is to be repaired: an opening keeps the log as it is")?;
        writeln!(out, "  {expected}")?;
        return Ok(ExitCode::SUCCESS);
    }
    writeln!(out, "a repair would come to this:")?;
    tell(&mut out, &expected)?;
    if args.dry_run {
        return Ok(ExitCode::from(TO_BE_REPAIRED));
    }
    let report = repair(&args.directory, damaged_at)?;
    writeln!(out, "repaired:")?;
    tell(&mut out, &report)?;
    Ok(ExitCode::SUCCESS)
}

const TO_BE_REPAIRED: u8 = 1;

/// What a repair would come to, and the damage that it has to be told of. Nothing is changed.
fn look(args: &Args) -> Result<(RecoveryReport, Option<PhysicalOffset>), Failure> {
    let files = ReadOnlyDirectory::open(&args.directory)?;
    // While it lives no broker can open the log.
    let inspection = Inspection::open(&files, false).map_err(|error| match error {
        InspectError::InUse { directory } => in_use(&directory),
        error => error.into(),
    })?;
    let segment_bytes = inspection.checkpoint().segment_bytes;
    let damaged_at = match args.cut_at {
        None => None,
        Some(offset) => {
            let damages = inspection.verify(threads(), &|_| ())?.tally.first_damages;
            let from = PhysicalOffset::new(offset);
            let first = damages.into_iter().filter_map(|damage| damage.at).filter(|at| *at >= from).min();
            Some(first.ok_or_else(|| format!("nothing is damaged from offset {from} on"))?)
        }
    };
    let options = RecoveryOptions { segment_bytes, repair: true, damaged_at, ..RecoveryOptions::default() };
    Ok((preview(&files, &options)?, damaged_at))
}

/// Opens the log with repair, and closes it.
fn repair(directory: &Path, damaged_at: Option<PhysicalOffset>) -> Result<RecoveryReport, Failure> {
    let files = Arc::new(Directory::open(directory)?);
    let options = Options { repair: true, damaged_at, ..Options::default() };
    let opened: Opened<()> =
        CommitLog::open(files, Arc::new(SystemClock::new()), options, ()).map_err(|error| match error {
            OpenError::Locked { directory } => in_use(&directory),
            error => error.into(),
        })?;
    let report = opened.recovery.clone();
    match opened.run(|_| ())?.close() {
        Stopped::Closed => Ok(report),
        poisoned => Err(poisoned.into()),
    }
}

fn in_use(directory: &str) -> Failure {
    format!("{directory} is in use by another process; stop that one first").into()
}

fn tell(out: &mut dyn Write, report: &RecoveryReport) -> std::io::Result<()> {
    writeln!(out, "  {report}")?;
    for name in &report.set_aside {
        writeln!(out, "  set aside: {name}")?;
    }
    Ok(())
}

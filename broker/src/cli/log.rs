//! `skylark log`: looking at a data directory without changing its log, and mending a log that cannot be opened.
//!
//! | to change…                      | open     |
//! |---------------------------------|----------|
//! | what is checked and told of it  | `verify` |
//! | how the log is listed           | `dump`   |
//! | what is counted                 | `stat`   |
//! | how devices are measured        | `probe`  |
//! | how a damaged log is cut        | `repair` |

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args as ClapArgs, Subcommand};
use skylark_storage::Kind;
use skylark_storage::device::read_only::ReadOnlyDirectory;
use skylark_storage::inspect::Inspection;

use super::Failure;
use crate::folds::kinds;

mod dump;
mod probe;
pub(super) mod repair;
mod stat;
mod verify;

/// What `skylark log` takes.
#[derive(ClapArgs)]
pub(super) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Check every byte of a log: exit code 0 if it is sound, 1 if anything is damaged, 2 if it could not be checked
    Verify(verify::Args),
    /// List every group, record, gap and damage of a log, in its order
    Dump(dump::Args),
    /// Count what a log holds, and say what an opening would keep
    Stat(stat::Args),
    /// Measure how long each device takes to make groups of 4, 64 and 512 KiB durable; writes about 30 MiB to files of its
    /// own
    Probe(probe::Args),
    /// Cut a log that no broker opens in front of its damage: says first what is kept and what is given up. What is
    /// given up and can be read stays in *.seg.given-up, which needs space for it. Exit code 0 if the log can be opened,
    /// 2 if it could not be repaired
    Repair(repair::Args),
}

/// Which directory, and how.
#[derive(ClapArgs)]
struct Place {
    /// The data directory: what `skylark serve` calls its store
    #[arg(value_name = "DIR")]
    directory: PathBuf,

    /// Look at it although a broker has it open, or its lock cannot be taken; what lies behind the last checkpoint is
    /// moving then, and not judged
    #[arg(long)]
    in_use: bool,
}

/// Runs the command. Whatever keeps it from its work is exit code 2, so that scripts can tell it from damage.
pub(super) fn run(args: Args) -> ExitCode {
    super::log_warnings_to_stderr();
    let outcome = match args.command {
        Command::Verify(args) => verify::run(&args),
        Command::Dump(args) => dump::run(&args).map(|()| ExitCode::SUCCESS),
        Command::Stat(args) => stat::run(&args).map(|()| ExitCode::SUCCESS),
        Command::Probe(args) => probe::run(&args).map(|()| ExitCode::SUCCESS),
        Command::Repair(args) => repair::run(&args),
    };
    outcome.unwrap_or_else(|error| {
        eprintln!("skylark: {error}");
        ExitCode::from(CANNOT_RUN)
    })
}

const CANNOT_RUN: u8 = 2;

impl Place {
    fn files(&self) -> Result<ReadOnlyDirectory, Failure> {
        Ok(ReadOnlyDirectory::open(&self.directory)?)
    }

    fn inspect<'f>(&self, files: &'f ReadOnlyDirectory) -> Result<Inspection<'f>, Failure> {
        let inspection = Inspection::open(files, self.in_use).map_err(|error| match error {
            skylark_storage::inspect::InspectError::InUse { .. } => format!("{error} with --in-use").into(),
            error => Failure::from(error),
        })?;
        if inspection.is_moving() {
            eprintln!(
                "skylark: the log is in use: what lies behind {} is moving, and not judged",
                inspection.checkpoint().durable_end
            );
        }
        Ok(inspection)
    }
}

/// What the broker calls a kind of record.
fn kind_name(kind: Kind) -> Option<&'static str> {
    match kind {
        Kind::PADDING => Some("padding"),
        Kind::EPOCH => Some("epoch"),
        kind => kinds::name(kind),
    }
}

/// Threads that check: twice as many as may run here, because some of them wait for the disk.
fn threads() -> usize {
    std::thread::available_parallelism().map_or(1, |cores| 2 * cores.get())
}

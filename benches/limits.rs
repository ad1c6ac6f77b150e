//! How close does the log come to the limit of the disk under it?
//!
//! One command, one run, one table: every figure of the log stands beside a reference that was measured right before and
//! right after it. Figures are medians, with the lowest and the highest; ratios are taken between neighbours.
//!
//! | part           | asks                                                                    | module             |
//! |----------------|-------------------------------------------------------------------------|--------------------|
//! | `device`       | what can the disk do, without any log? S, W and B                        | [`device`]         |
//! | `durable`      | what does the log make of it, with 1 to 512 appenders, on every device?  | [`durable`]        |
//! | `written`      | and where the kernel's word is enough?                                   | [`written`]        |
//! | `space`        | how much room does a record take?                                        | [`space`]          |
//! | `isolation`    | who else moves the slowest appends?                                      | [`isolation`]      |
//! | `recovery`     | how long after `kill -9` until the first append? how fast is all checked? | [`recovery`]      |
//!
//! What must be shown is in [`lines`], how figures are noted and held against that in [`cell`] and [`report`], how a
//! contestant and its references take turns in [`beside`], and where the run happened in [`machine`].

use std::error::Error;
use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Parser, Subcommand};

use crate::support::devices;
use crate::support::load::Times;
use crate::support::peer::Peer;
use crate::support::scratch;

use device::Figures;
use machine::Machine;
use report::Report;

pub mod beside;
pub mod cell;
pub mod device;
pub mod durable;
pub mod isolation;
pub mod lines;
pub mod machine;
pub mod recovery;
pub mod report;
pub mod space;
pub mod victim;
pub mod written;

/// Puts the log beside the device's own limits, and says what of all that must be shown holds.
#[derive(Parser)]
#[command(about, long_about = None, after_help = EXITS)]
struct Arguments {
    /// How often everything is measured; figures are medians.
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// How long each contestant is measured in a round.
    #[arg(long, default_value_t = 0.75)]
    seconds: f64,
    /// End with 1 unless every line of what must be shown holds that this run was to measure.
    #[arg(long)]
    judge: bool,
    /// Cells to run, by the beginnings of their names; all if none is given.
    #[arg(long, value_delimiter = ',')]
    only: Vec<String>,
    /// Devices of the log to measure; all if none is given.
    #[arg(long, value_delimiter = ',')]
    devices: Vec<String>,
    /// Where files are written: about 25 GB of them with all parts, on the disk that is to be measured.
    #[arg(long, env = "SKYLARK_BENCH_DIR")]
    directory: Option<PathBuf>,
    /// Where the table is written as JSON too.
    #[arg(long)]
    json: Option<PathBuf>,
    /// Length of the log that is recovered, in MiB; shorter, its line counts as not measured.
    #[arg(long, default_value_t = recovery::FULL_BYTES >> 20)]
    recovery_mib: u64,
    /// How much is written where the kernel's word is enough, in MiB.
    #[arg(long, default_value_t = 4 << 10)]
    written_mib: u64,
    #[command(subcommand)]
    role: Option<Role>,
}

const EXITS: &str = "\
Ends with 0 when everything was measured that was asked for, whatever came of it; with --judge only when no line falls \
short or could not be measured, and with 1 otherwise. Lines that --only leaves out are listed as not measured, and \
count for nothing. Ends with 2 when the run itself fails.";

/// What this program does in the processes that it starts and kills.
#[derive(Subcommand)]
enum Role {
    /// Opens a log and appends to it until it is killed.
    #[command(hide = true)]
    Victim(victim::Arguments),
}

/// What every part is told.
pub struct Plan<'a> {
    /// How often everything is measured.
    pub rounds: usize,
    /// How long each contestant is, and how long it warms up before.
    pub times: Times,
    /// Where files are written.
    pub directory: PathBuf,
    /// The devices of the log that are measured; not empty.
    pub devices: Vec<devices::Choice>,
    /// Logs of others.
    pub peers: &'a [&'a dyn Peer],
    /// Length of the log that is recovered.
    pub recovery_bytes: u64,
    /// How much is written where the kernel's word is enough.
    pub written_bytes: u64,
    only: Vec<String>,
}

impl Plan<'_> {
    /// Whether a cell is asked for, by the beginning of its name.
    pub fn wants(&self, cell: &str) -> bool {
        self.only.is_empty() || self.only.iter().any(|only| cell.starts_with(only.as_str()))
    }

    /// The device that stands for the log where not all are measured.
    pub fn device(&self) -> devices::Choice {
        *self.devices.last().expect("there is a device")
    }
}

/// Measures what the command line asks for, and prints it. `peers` are put beside the log.
pub fn main(peers: &[&dyn Peer]) -> ExitCode {
    match run(&Arguments::parse(), peers) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::from(2)
        }
    }
}

/// Whether all is well, as far as anybody wants to know.
fn run(arguments: &Arguments, peers: &[&dyn Peer]) -> Result<bool, Box<dyn Error>> {
    if let Some(Role::Victim(arguments)) = &arguments.role {
        return victim::run(arguments).map(|()| true);
    }
    let directory = scratch::directory(&arguments.directory.clone().unwrap_or_else(scratch::parent));
    let plan = plan(arguments, peers, directory.path().to_owned())?;
    let mut report = Report::new(Machine::find(directory.path()), arguments.rounds, plan.times);
    let figures = Figures::measure(&plan, &mut report)?;
    durable::run(&plan, &figures, &mut report)?;
    written::run(&plan, &mut report)?;
    space::run(&plan, &mut report);
    isolation::run(&plan, &mut report)?;
    recovery::run(&plan, &mut report)?;
    lines::judge(&plan, &mut report);
    let mut out = std::io::stdout().lock();
    writeln!(out, "{}", report.verdicts())?;
    if let Some(path) = &arguments.json {
        std::fs::write(path, serde_json::to_vec_pretty(&report.to_json())?)?;
    }
    scratch::clear(directory);
    Ok(!arguments.judge || report.holds())
}

fn plan<'a>(
    arguments: &Arguments,
    peers: &'a [&'a dyn Peer],
    directory: PathBuf,
) -> Result<Plan<'a>, Box<dyn Error>> {
    let devices = if arguments.devices.is_empty() {
        devices::choices()
    } else {
        let named = |name: &String| devices::find(name).ok_or_else(|| format!("there is no device {name}"));
        arguments.devices.iter().map(named).collect::<Result<_, _>>()?
    };
    let is_usable = |choice: &devices::Choice| match devices::check(&directory.join("check"), *choice) {
        Ok(()) => true,
        Err(error) => {
            println!("{} is left out: {error}\n", choice.name);
            false
        }
    };
    let devices: Vec<_> = devices.into_iter().filter(is_usable).collect();
    if devices.is_empty() {
        return Err("no device can be used here".into());
    }
    if arguments.rounds == 0 || !(0.01..=3600.0).contains(&arguments.seconds) {
        return Err("there is at least one round, of 0.01 to 3600 seconds".into());
    }
    let measured = Duration::from_secs_f64(arguments.seconds);
    Ok(Plan {
        rounds: arguments.rounds,
        times: Times { warm: (measured / 3).max(Duration::from_millis(20)), measured },
        directory,
        devices,
        peers,
        recovery_bytes: arguments.recovery_mib << 20,
        written_bytes: arguments.written_mib << 20,
        only: arguments.only.iter().filter(|only| !only.is_empty()).cloned().collect(),
    })
}

//! The process that is killed: it opens a log, says how long that took, appends, and waits for its end.

use std::error::Error;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use clap::Args;
use skylark_storage::Options;

use crate::support::appenders::{self, RunningLog};
use crate::support::devices::{self, Choice};
use crate::support::records::{PAYLOAD_BYTES, Payload};

/// What the process is told.
#[derive(Args)]
pub struct Arguments {
    /// Where the log is.
    directory: PathBuf,
    /// The device.
    device: String,
    /// How many bytes it appends before it says that it is ready to be killed.
    bytes: u64,
}

/// What a process said before it was killed.
pub struct Report {
    /// From the call that opens the log until the first record appended to it was durable, in milliseconds.
    pub first_append_ms: f64,
    /// Of that, opening.
    pub open_ms: f64,
    /// What recovery read.
    pub scanned_mib: f64,
}

/// The process itself: never returns unless something fails.
///
/// # Errors
/// When nobody listens.
pub fn run(arguments: &Arguments) -> Result<(), Box<dyn Error>> {
    let Arguments { directory, device, bytes } = arguments;
    let choice = devices::find(device).ok_or("there is no such device")?;
    let files = devices::open(directory, choice)?;
    let payload = Payload::new(PAYLOAD_BYTES);
    let started = Instant::now();
    let running = RunningLog::open(Arc::new(files), Options::default());
    let opened = started.elapsed();
    appenders::append_on_thread(&running.log, &payload, 1);
    let appended = started.elapsed();
    let scanned = running.recovery.scanned_bytes;
    appenders::fill(&running.log, &payload, *bytes);
    let mut out = std::io::stdout().lock();
    writeln!(out, "{} {} {scanned}", appended.as_secs_f64(), opened.as_secs_f64())?;
    out.flush()?;
    // Killed while it appends, as a busy broker is.
    loop {
        appenders::append_on_thread(&running.log, &payload, 32);
    }
}

/// Starts the process on a log, lets it append, and kills it with SIGKILL while it goes on.
///
/// # Errors
/// When it could not do what it was to do.
pub fn start_and_kill(directory: &Path, choice: Choice, bytes: u64) -> Result<Report, Box<dyn Error>> {
    let mut child = Command::new(std::env::current_exe()?)
        .arg("victim")
        .args([directory.as_os_str(), choice.name.as_ref()])
        .arg(bytes.to_string())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()?;
    let said = listen(&mut child);
    if said.is_ok() {
        thread::sleep(Duration::from_millis(50));
    }
    child.kill()?;
    child.wait()?;
    said
}

fn listen(child: &mut Child) -> Result<Report, Box<dyn Error>> {
    let out = child.stdout.take().ok_or("the process has no output")?;
    let mut line = String::new();
    BufReader::new(out).read_line(&mut line)?;
    let numbers: Vec<f64> = line.split_whitespace().map(str::parse).collect::<Result<_, _>>()?;
    let [appended, opened, scanned] = numbers[..] else { return Err("the process ended too early".into()) };
    Ok(Report {
        first_append_ms: appended * 1e3,
        open_ms: opened * 1e3,
        scanned_mib: scanned / f64::from(1 << 20),
    })
}

//! A child process that cannot outlive its test, is never waited for without limit, and shows what it printed
//! when something goes wrong.

use std::io::{BufRead, BufReader, Read};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

pub(crate) use rustix::process::Signal;

/// A running child. Dropped, it is killed.
pub(crate) struct Process {
    name: String,
    child: Child,
    lines: Receiver<String>,
    transcript: Arc<Mutex<Transcript>>,
}

/// The latest lines of both streams.
#[derive(Default)]
struct Transcript {
    lines: Vec<String>,
    dropped: usize,
}

/// Lines of a child's output that are kept for the message of a failure.
const TRANSCRIPT_LINES_MAX: usize = 400;
/// A child that has closed its output ends at once or hangs.
const EXIT_AFTER_CLOSE: Duration = Duration::from_secs(20);

impl Process {
    /// Starts `command`; its standard output is read by line, both streams are kept.
    ///
    /// # Panics
    ///
    /// When it cannot be started.
    pub(crate) fn start(name: &str, command: &mut Command) -> Self {
        let spawned = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
        let mut child = spawned.unwrap_or_else(|error| panic!("cannot start {name}: {error}"));
        let transcript = Arc::new(Mutex::new(Transcript::default()));
        let (sender, lines) = channel();
        let stdout = child.stdout.take().expect("standard output is piped");
        let stderr = child.stderr.take().expect("standard error is piped");
        read_lines(stderr, Arc::clone(&transcript), |_line| ());
        // Nobody has to listen: the transcript is kept in any case.
        read_lines(stdout, Arc::clone(&transcript), move |line| sender.send(line).unwrap_or_default());
        Self { name: name.to_owned(), child, lines, transcript }
    }

    /// The next line of standard output that `wanted` accepts; lines before it are skipped.
    ///
    /// # Panics
    ///
    /// When the output ends or `limit` passes first.
    pub(crate) fn line(&mut self, limit: Duration, wanted: impl Fn(&str) -> bool) -> String {
        let deadline = Instant::now() + limit;
        loop {
            match self.lines.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
                Ok(line) if wanted(&line) => return line,
                Ok(_) => {}
                Err(RecvTimeoutError::Timeout) => {
                    panic!(
                        "{} has not said within {limit:?} what was waited for\n{}",
                        self.name,
                        self.transcript()
                    )
                }
                Err(RecvTimeoutError::Disconnected) => {
                    panic!("{} ended before saying what was waited for\n{}", self.name, self.transcript())
                }
            }
        }
    }

    /// Waits for the end; returns the rest of standard output and how it ended.
    ///
    /// # Panics
    ///
    /// When `limit` passes first.
    pub(crate) fn finish(mut self, limit: Duration) -> Finished {
        let deadline = Instant::now() + limit;
        let mut lines = Vec::new();
        loop {
            match self.lines.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
                Ok(line) => lines.push(line),
                Err(RecvTimeoutError::Disconnected) => break,
                Err(RecvTimeoutError::Timeout) => {
                    panic!("{} has not ended within {limit:?}\n{}", self.name, self.transcript())
                }
            }
        }
        let status = self.wait(EXIT_AFTER_CLOSE);
        Finished { lines, status, transcript: self.transcript() }
    }

    /// Waits until the process has ended, whatever it still prints.
    ///
    /// # Panics
    ///
    /// When `limit` passes first.
    pub(crate) fn wait(&mut self, limit: Duration) -> ExitStatus {
        let deadline = Instant::now() + limit;
        loop {
            let ended = self
                .child
                .try_wait()
                .unwrap_or_else(|error| panic!("cannot wait for {}: {error}", self.name));
            if let Some(status) = ended {
                return status;
            }
            if Instant::now() >= deadline {
                panic!("{} has not ended within {limit:?}\n{}", self.name, self.transcript());
            }
            // The standard library waits for a child only without limit.
            thread::sleep(Duration::from_millis(2));
        }
    }

    /// Whether the process still runs.
    pub(crate) fn is_running(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// Sends `signal`; one that comes too late changes nothing.
    pub(crate) fn signal(&self, signal: Signal) {
        let pid = rustix::process::Pid::from_child(&self.child);
        // The child has not been waited for, so its id is not another's yet.
        rustix::process::kill_process(pid, signal).ok();
    }

    /// The process id.
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// What it printed so far, the latest lines.
    pub(crate) fn transcript(&self) -> String {
        let transcript = self.transcript.lock().unwrap_or_else(PoisonError::into_inner);
        let dropped = match transcript.dropped {
            0 => String::new(),
            lines => format!("... {lines} lines before ...\n"),
        };
        format!("--- output of {}\n{dropped}{}\n---", self.name, transcript.lines.join("\n"))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Both fail only for a child that has ended and was waited for.
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

/// A process that has ended.
pub(crate) struct Finished {
    /// Standard output from where it had been read to.
    pub(crate) lines: Vec<String>,
    /// How it ended.
    pub(crate) status: ExitStatus,
    transcript: String,
}

impl Finished {
    /// Itself, if the exit status was 0.
    ///
    /// # Panics
    ///
    /// Otherwise, with everything it printed.
    pub(crate) fn succeeded(self) -> Self {
        assert!(self.status.success(), "ended with {}\n{}", self.status, self.transcript);
        self
    }

    /// Everything printed, both streams.
    pub(crate) fn transcript(&self) -> &str {
        &self.transcript
    }
}

fn read_lines(
    stream: impl Read + Send + 'static,
    transcript: Arc<Mutex<Transcript>>,
    mut each: impl FnMut(String) + Send + 'static,
) {
    thread::spawn(move || {
        for line in BufReader::new(stream).split(b'\n') {
            // A stream that breaks off has ended.
            let Ok(line) = line else { return };
            let line = String::from_utf8_lossy(&line).into_owned();
            let mut kept = transcript.lock().unwrap_or_else(PoisonError::into_inner);
            if kept.lines.len() == TRANSCRIPT_LINES_MAX {
                kept.lines.remove(0);
                kept.dropped += 1;
            }
            kept.lines.push(line.clone());
            drop(kept);
            each(line);
        }
    });
}

//! The real `skylark` binary on free ports and a directory of its own.

use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Command, ExitStatus};
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use tempfile::TempDir;

use super::process::{Process, Signal};

/// A hang, not a slow start, is what these bound.
const START_WITHIN: Duration = Duration::from_secs(60);
const STOP_WITHIN: Duration = Duration::from_secs(60);

/// A broker with its nameserver. Restarted, it keeps ports, data and options. Dropped, it is killed.
pub(crate) struct Server {
    process: Option<Process>,
    directory: TempDir,
    ports: Ports,
    options: Vec<String>,
}

#[derive(Clone, Copy)]
struct Ports {
    broker: u16,
    nameserver: u16,
}

impl Server {
    /// Starts on an empty directory and returns once it accepts.
    ///
    /// # Panics
    ///
    /// When it does not start.
    pub(crate) fn start() -> Self {
        Self::start_with::<&str>(&[])
    }

    /// As [`start`](Self::start), with more options of `skylark serve`.
    ///
    /// # Panics
    ///
    /// When it does not start.
    pub(crate) fn start_with<S: AsRef<str>>(options: &[S]) -> Self {
        let directory =
            TempDir::new_in(env!("CARGO_TARGET_TMPDIR")).expect("the build directory is writable");
        let ports = Ports { broker: free_port(&[-2, 0]), nameserver: free_port(&[0]) };
        let mut server = Self { process: None, directory, ports, options: Vec::new() };
        server.set_options(options);
        server.restart();
        server
    }

    /// Gives the next start these options instead of those before.
    pub(crate) fn set_options(&mut self, options: &[impl AsRef<str>]) {
        self.options = options.iter().map(|option| option.as_ref().to_owned()).collect();
    }

    /// Starts again what has ended; returns how long it took until it accepted.
    ///
    /// # Panics
    ///
    /// When it does not start, or still runs.
    pub(crate) fn restart(&mut self) -> Duration {
        assert!(self.process.is_none(), "stop the server before it is started again");
        let begun = Instant::now();
        let mut process = Process::start("skylark", &mut self.command());
        process.line(START_WITHIN, |line| line.starts_with("ready"));
        for address in [self.broker(), self.nameserver()] {
            if let Err(error) = TcpStream::connect(address) {
                panic!(
                    "{address} is not open although the broker is ready: {error}\n{}",
                    process.transcript()
                );
            }
        }
        self.process = Some(process);
        begun.elapsed()
    }

    /// The command that starts it: for a second instance on the same directory, say.
    pub(crate) fn command(&self) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_skylark"));
        command.arg("serve").arg("--data").arg(self.data());
        command.arg("--listen").arg(self.broker().to_string());
        command.arg("--namesrv-listen").arg(self.nameserver().to_string());
        // What else lies on this machine's disk is no matter of the tests; options go before the environment.
        command.env("SKYLARK_DISK_CLEAN_PERCENT", "100").env("SKYLARK_DISK_REFUSE_PERCENT", "100");
        command.args(&self.options);
        command
    }

    /// SIGTERM, and how it ended.
    ///
    /// # Panics
    ///
    /// When it hangs.
    pub(crate) fn terminate(&mut self) -> ExitStatus {
        self.stop(Signal::TERM)
    }

    /// SIGKILL: no chance to tidy up.
    ///
    /// # Panics
    ///
    /// When the system does not end it.
    pub(crate) fn kill(&mut self) {
        self.stop(Signal::KILL);
    }

    fn stop(&mut self, signal: Signal) -> ExitStatus {
        let mut process = self.process.take().expect("the server runs");
        assert!(process.is_running(), "the broker had ended by itself\n{}", process.transcript());
        process.signal(signal);
        process.wait(STOP_WITHIN)
    }

    /// Where clients send to.
    pub(crate) fn broker(&self) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, self.ports.broker).into()
    }

    /// Where clients look up routes.
    pub(crate) fn nameserver(&self) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, self.ports.nameserver).into()
    }

    /// The data directory.
    pub(crate) fn data(&self) -> std::path::PathBuf {
        self.directory.path().join("data")
    }

    /// A directory that lives as long as the server and that it does not touch.
    pub(crate) fn scratch(&self) -> &Path {
        self.directory.path()
    }

    /// The process id.
    ///
    /// # Panics
    ///
    /// When it does not run.
    pub(crate) fn id(&self) -> u32 {
        self.process.as_ref().expect("the server runs").id()
    }

    /// What the broker printed since it was last started.
    pub(crate) fn transcript(&self) -> String {
        self.process.as_ref().map(Process::transcript).unwrap_or_default()
    }
}

/// A port that nobody listens on, nor on those that far from it; never the same twice in one process.
///
/// It lies below the range from which the system takes the near end of outgoing connections: a client that tries
/// again and again to reach a broker that is down must not be given that very port and connect to itself.
///
/// # Panics
///
/// When there is none.
pub(crate) fn free_port(offsets: &[i32]) -> u16 {
    const FIRST: u32 = 15_000;
    const COUNT: u32 = 17_000;
    // Room for the neighbours of a port that was handed out before.
    const STEP: u32 = 4;
    static NEXT: AtomicU32 = AtomicU32::new(0);
    // Processes that run at the same time start far from each other. Their ids do not tell them apart: in namespaces
    // of their own they have the same.
    static START: LazyLock<u32> = LazyLock::new(rand::random);
    for _attempt in 0..COUNT / STEP {
        // Relaxed: only that no two calls get the same number matters.
        let turn = NEXT.fetch_add(1, Ordering::Relaxed);
        let port = FIRST + (START.wrapping_add(turn) % (COUNT / STEP)) * STEP;
        let neighbours = offsets.iter().map(|offset| u16::try_from(i64::from(port) + i64::from(*offset)));
        let free = |port: u16| TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok();
        if neighbours.into_iter().all(|port| port.is_ok_and(free)) {
            return u16::try_from(port).expect("the range ends below 65,536");
        }
    }
    panic!("no port with {offsets:?} beside it is free");
}

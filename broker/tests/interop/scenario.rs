//! Runs one scenario of a client program and reads its verdict.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use crate::support::process::{Finished, Process};
use crate::support::server::Server;
use crate::target::Target;
use crate::toolchain;

/// For a scenario or a line of it: scenarios give up before that, and say what is missing.
pub(crate) const LIMIT: Duration = Duration::from_secs(900);

/// The official Java client against `server`.
#[derive(Clone, Copy)]
pub(crate) struct JavaClient {
    class_path: &'static str,
}

impl JavaClient {
    /// The program, built; without Java or Maven the test is over.
    pub(crate) fn built() -> Option<Self> {
        toolchain::java_client().map(|class_path| Self { class_path: class_path.as_str() })
    }

    /// Starts a scenario, to be watched.
    pub(crate) fn start(self, server: &Server, scenario: &str, options: &[String]) -> Process {
        self.start_with(server, scenario, options, |_command| ())
    }

    /// As [`start`](Self::start), with the command changed before it is run.
    pub(crate) fn start_with(
        self,
        server: &Server,
        scenario: &str,
        options: &[String],
        change: impl FnOnce(&mut Command),
    ) -> Process {
        self.start_at(server.nameserver(), server.scratch(), scenario, options, change)
    }

    fn start_at(
        self,
        nameserver: SocketAddr,
        home: &Path,
        scenario: &str,
        options: &[String],
        change: impl FnOnce(&mut Command),
    ) -> Process {
        let mut command = toolchain::java(self.class_path, home);
        change(&mut command);
        // The soak keeps megabyte bodies on their way in eight queues and two members.
        command.args(["-Xmx768m", "skylark.interop.Main", scenario]);
        command.arg(format!("namesrv={nameserver}")).args(options);
        Process::start(&format!("java {scenario}"), &mut command)
    }

    /// Runs a scenario to its end and kills and restarts the broker beneath it whenever it asks for that.
    pub(crate) fn check_over_kills(
        self,
        target: &mut Target,
        scenario: &str,
        options: &[String],
        checks: &[&str],
    ) {
        let mut process =
            self.start_at(target.nameserver(), target.scratch(), scenario, options, |_command| ());
        let mut lines = Vec::new();
        loop {
            let line = process.line(LIMIT, |_line| true);
            if line == "kill" {
                target.kill_and_restart();
            }
            let is_last = line.starts_with("end ");
            lines.push(line);
            if is_last {
                break;
            }
        }
        let mut finished = process.finish(LIMIT);
        finished.lines.splice(0..0, lines);
        verdict_of(finished, checks, &target.transcript());
    }

    /// Runs a scenario to its end: it must succeed and have made each of these checks.
    pub(crate) fn check(
        self,
        server: &Server,
        scenario: &str,
        options: &[String],
        checks: &[&str],
    ) -> Finished {
        self.check_within(LIMIT, server, scenario, options, checks)
    }

    /// As [`check`](Self::check) with its own limit.
    pub(crate) fn check_within(
        self,
        limit: Duration,
        server: &Server,
        scenario: &str,
        options: &[String],
        checks: &[&str],
    ) -> Finished {
        let finished = self.start(server, scenario, options).finish(limit);
        verdict(server, finished, checks)
    }
}

/// The Go program against `server`.
pub(crate) fn start_go(program: &std::path::Path, server: &Server, scenario: &str, messages: u32) -> Process {
    let mut command = std::process::Command::new(program);
    command.args(["-namesrv", &server.nameserver().to_string(), "-broker", &server.broker().to_string()]);
    command.args(["-messages", &messages.to_string(), scenario]);
    Process::start(&format!("go {scenario}"), &mut command)
}

/// The scenario succeeded and made each of these checks; prints what it found.
pub(crate) fn verdict(server: &Server, finished: Finished, checks: &[&str]) -> Finished {
    verdict_of(finished, checks, &server.transcript())
}

fn verdict_of(finished: Finished, checks: &[&str], server: &str) -> Finished {
    let passed: BTreeSet<&str> =
        finished.lines.iter().filter_map(|line| line.strip_prefix("ok ")?.split(' ').next()).collect();
    let missing: Vec<_> = checks.iter().filter(|check| !passed.contains(*check)).collect();
    assert!(
        finished.status.success() && missing.is_empty(),
        "ended with {}, without an ok for {missing:?}\n{}\n{}",
        finished.status,
        finished.transcript(),
        server,
    );
    for line in finished.lines.iter().filter(|line| line.starts_with("ok ")) {
        println!("{line}");
    }
    finished
}

/// What a scenario printed after `key`.
pub(crate) fn value(finished: &Finished, key: &str) -> String {
    let prefix = format!("{key} ");
    let found = finished.lines.iter().find_map(|line| line.strip_prefix(&prefix));
    found.unwrap_or_else(|| panic!("no line `{key} ...`\n{}", finished.transcript())).to_owned()
}

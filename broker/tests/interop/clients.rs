//! Client programs of other languages and versions, all with the same scenarios under the same names: what they
//! check is what an application can observe, whichever client it uses.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::time::Duration;

use crate::support::process::Process;
use crate::target::Target;
use crate::toolchain;

/// A client as a built program.
pub(crate) enum Client {
    Java { class_path: &'static str, program: &'static str },
    Go { program: &'static Path },
    Node { sources: &'static Path },
}

/// One run of a program, and the checks that it has to make.
pub(crate) struct Scenario {
    pub(crate) name: &'static str,
    pub(crate) option: Option<(&'static str, String)>,
    pub(crate) checks: Vec<&'static str>,
    pub(crate) limit: Duration,
}

impl Client {
    /// The Java client of the same version as the servers of Apache that we compare with.
    pub(crate) fn java() -> Option<Self> {
        toolchain::java_client().map(|class_path| Self::Java { class_path, program: "skylark.interop.Main" })
    }

    /// The Java client 4.4.0, which sends to the port two below the broker's.
    pub(crate) fn java_4_4() -> Option<Self> {
        static BUILT: OnceLock<Result<String, String>> = OnceLock::new();
        java_4(&BUILT, "4.4.0")
    }

    /// The Java client 4.9.8, the last of its line.
    pub(crate) fn java_4_9() -> Option<Self> {
        static BUILT: OnceLock<Result<String, String>> = OnceLock::new();
        java_4(&BUILT, "4.9.8")
    }

    /// The Go client v2.
    pub(crate) fn go() -> Option<Self> {
        toolchain::go_client().map(|program| Self::Go { program })
    }

    /// `ali-ons`, the client for Node.
    pub(crate) fn node() -> Option<Self> {
        static BUILT: OnceLock<Result<PathBuf, String>> = OnceLock::new();
        let sources = toolchain::available(BUILT.get_or_init(node_modules))?;
        Some(Self::Node { sources })
    }

    /// Starts a scenario against the broker known to `nameserver`; `home` is where it may leave files.
    pub(crate) fn start(
        &self,
        nameserver: SocketAddr,
        broker: SocketAddr,
        home: &Path,
        scenario: &Scenario,
    ) -> Process {
        let mut command = match self {
            Self::Java { class_path, program } => {
                let mut command = toolchain::java(class_path, home);
                // Versions before 5.0 reach into the JDK.
                for package in ["java.nio", "sun.nio.ch", "java.lang", "java.util"] {
                    command.arg(format!("--add-opens=java.base/{package}=ALL-UNNAMED"));
                }
                // As often as the client asks for routes: a start that a busy machine spoilt is soon made up for.
                command.arg("-Drocketmq.client.rebalance.waitInterval=2000");
                command.args(["-Xmx512m", program, scenario.name]);
                command.arg(format!("namesrv={nameserver}"));
                command.args(scenario.option.iter().map(|(key, value)| format!("{key}={value}")));
                command
            }
            Self::Go { program } => {
                let mut command = Command::new(program);
                command.args(["-namesrv", &nameserver.to_string(), "-broker", &broker.to_string()]);
                // Consumers of all messages keep their offsets there.
                command.env("HOME", home);
                command.arg(format!("-timeout={}s", scenario.limit.as_secs()));
                command.args(scenario.option.iter().map(|(key, value)| format!("-{key}={value}")));
                command.arg(scenario.name);
                command
            }
            Self::Node { sources } => {
                let mut command = Command::new("node");
                command.env("HOME", home).arg(sources.join("main.js")).arg(scenario.name);
                command.arg(format!("namesrv={nameserver}"));
                command.args(scenario.option.iter().map(|(key, value)| format!("{key}={value}")));
                command
            }
        };
        Process::start(scenario.name, &mut command)
    }

    /// Runs scenarios at the same time, each to its end, and asserts what they found.
    pub(crate) fn check(&self, target: &Target, scenarios: &[Scenario]) {
        self.check_operated(target, scenarios, |_first| ());
    }

    /// As [`check`](Self::check), with an operator who does what the first of the scenarios asks for.
    pub(crate) fn check_operated(
        &self,
        target: &Target,
        scenarios: &[Scenario],
        operator: impl FnOnce(&mut Process),
    ) {
        let start = |scenario| self.start(target.nameserver(), target.broker(), target.scratch(), scenario);
        let mut running: Vec<Process> = scenarios.iter().map(start).collect();
        operator(running.first_mut().expect("there is a scenario"));
        let verdicts =
            running.into_iter().zip(scenarios).map(|(process, scenario)| verdict(process, scenario));
        let failures: Vec<String> = verdicts.filter_map(Result::err).collect();
        assert!(failures.is_empty(), "{}\n{}", failures.join("\n"), target.transcript());
    }
}

/// The scenario ends well and has made each of its checks; prints what it found.
///
/// # Errors
///
/// With everything it printed.
pub(crate) fn verdict(process: Process, scenario: &Scenario) -> Result<(), String> {
    let finished = process.finish(scenario.limit);
    let passed: BTreeSet<&str> =
        finished.lines.iter().filter_map(|line| line.strip_prefix("ok ")?.split(' ').next()).collect();
    for line in finished.lines.iter().filter(|line| line.starts_with("ok ")) {
        println!("{line}");
    }
    let missing: Vec<_> = scenario.checks.iter().filter(|check| !passed.contains(*check)).collect();
    if finished.status.success() && missing.is_empty() {
        return Ok(());
    }
    let (name, status) = (scenario.name, finished.status);
    Err(format!("{name} ended with {status}, without an ok for {missing:?}\n{}", finished.transcript()))
}

fn java_4(built: &'static OnceLock<Result<String, String>>, version: &str) -> Option<Client> {
    let class_path = toolchain::available(built.get_or_init(|| {
        let project = Path::new(toolchain::SOURCES).join("java4");
        let property = format!("rocketmq.version={version}");
        let target = toolchain::maven(&project, &format!("interop-java-{version}"), &[&property])?;
        Ok(format!("{0}/classes:{0}/lib/*", target.display()))
    }))?;
    Some(Client::Java { class_path, program: "skylark.interop.OlderMain" })
}

/// The program beside the packages that its lock file names: Node looks for them where the program lies.
fn node_modules() -> Result<PathBuf, String> {
    toolchain::installed("node", "--version")?;
    toolchain::installed("npm", "--version")?;
    let sources = Path::new(toolchain::SOURCES).join("node");
    let target = Path::new(toolchain::BUILD).join("interop-node");
    let copy = || -> std::io::Result<bool> {
        std::fs::create_dir_all(&target)?;
        // npm keeps its own account of what it has installed.
        let locked = std::fs::read(sources.join("package-lock.json"))?;
        let installed = target.join("node_modules/.package-lock.json").exists()
            && std::fs::read(target.join("package-lock.json")).is_ok_and(|before| before == locked);
        for entry in std::fs::read_dir(&sources)? {
            let entry = entry?;
            if entry.file_type()?.is_file() {
                std::fs::copy(entry.path(), target.join(entry.file_name()))?;
            }
        }
        Ok(installed)
    };
    if copy().map_err(|error| format!("{} cannot be written: {error}", target.display()))? {
        return Ok(target);
    }
    let mut command = Command::new("npm");
    command.current_dir(&target).args(["ci", "--ignore-scripts", "--no-audit", "--no-fund"]);
    let finished = Process::start("npm", &mut command).finish(toolchain::FETCH_WITHIN);
    if finished.status.success() {
        return Ok(target);
    }
    Err(format!("npm cannot fetch the client\n{}", finished.transcript()))
}

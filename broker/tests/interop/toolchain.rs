//! The official clients as built programs: built once, from what the package managers fetch, outside the source
//! tree. Where that cannot be done the tests say so and skip, or fail if they are required.

use std::fmt::Display;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::Duration;

use crate::support::process::{Finished, Process};

/// Fetching some hundred artifacts over a slow line, not hanging.
pub(crate) const FETCH_WITHIN: Duration = Duration::from_secs(900);

/// Where the programs are built.
pub(crate) const BUILD: &str = env!("CARGO_TARGET_TMPDIR");
/// Where their sources are.
pub(crate) const SOURCES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/interop");
const APACHE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../benches/compare/apache");

/// The class path of the Java program with the official client.
pub(crate) fn java_client() -> Option<&'static String> {
    static BUILT: OnceLock<Result<String, String>> = OnceLock::new();
    available(BUILT.get_or_init(|| {
        let target = maven(&Path::new(SOURCES).join("java"), "interop-java", &[])?;
        Ok(format!("{0}/classes:{0}/lib/*", target.display()))
    }))
}

/// The class path of Apache's own servers and tools.
pub(crate) fn apache() -> Option<&'static String> {
    static BUILT: OnceLock<Result<String, String>> = OnceLock::new();
    available(BUILT.get_or_init(|| {
        let target = maven(Path::new(APACHE), "apache-rocketmq", &[])?;
        Ok(format!("{}/lib/*", target.display()))
    }))
}

/// The Go program with the official client.
pub(crate) fn go_client() -> Option<&'static PathBuf> {
    static BUILT: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    available(BUILT.get_or_init(|| {
        installed("go", "version")?;
        let sources = Path::new(SOURCES).join("go");
        let program = Path::new(BUILD).join("interop-go");
        let go = |arguments: &[&str]| {
            let mut command = Command::new("go");
            command.current_dir(&sources).args(arguments);
            Process::start("go", &mut command).finish(FETCH_WITHIN)
        };
        let fetched = go(&["mod", "download"]);
        if !fetched.status.success() {
            return Err(format!("Go cannot fetch the client\n{}", fetched.transcript()));
        }
        let output = program.to_str().ok_or("the build directory's name is not UTF-8")?;
        go(&["build", "-mod=readonly", "-o", output, "."]).succeeded();
        Ok(program)
    }))
}

/// A JVM that keeps its logs and state in `home`.
pub(crate) fn java(class_path: &str, home: &Path) -> Command {
    let mut command = Command::new("java");
    let property = |name: &str, value: &dyn Display| format!("-D{name}={value}");
    command.arg(property("user.home", &home.display()));
    command.arg(property("rocketmq.client.logRoot", &home.display()));
    command.arg(property("file.encoding", &"UTF-8"));
    command.args(["-cp", class_path]);
    command
}

/// Builds a project into a directory of that name; `properties` are Maven's own, `KEY=VALUE`.
pub(crate) fn maven(project: &Path, name: &str, properties: &[&str]) -> Result<PathBuf, String> {
    // Maven's repository of fetched artifacts takes one writer at a time.
    static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
    let _turn = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    installed("java", "-version")?;
    installed("mvn", "--version")?;
    let target = Path::new(BUILD).join(name);
    let package = |offline: &[&str]| -> Finished {
        let mut command = Command::new("mvn");
        command.args(["-q", "-B"]).args(offline).arg("-f").arg(project.join("pom.xml"));
        command.args(properties.iter().map(|property| format!("-D{property}")));
        command.arg(format!("-Dout={}", target.display())).arg("package");
        Process::start("mvn", &mut command).finish(FETCH_WITHIN)
    };
    // What was fetched once is enough, and asks nobody.
    if package(&["-o"]).status.success() {
        return Ok(target);
    }
    let built = package(&[]);
    if built.status.success() {
        return Ok(target);
    }
    // A program that does not compile is our mistake and no reason to skip.
    assert!(!built.transcript().contains("COMPILATION ERROR"), "{}", built.transcript());
    Err(format!("Maven cannot build {name}\n{}", built.transcript()))
}

/// Whether a program runs at all.
pub(crate) fn installed(program: &str, version: &str) -> Result<(), String> {
    match Command::new(program).arg(version).output() {
        Ok(output) if output.status.success() => Ok(()),
        Ok(output) => Err(format!("`{program} {version}` ends with {}", output.status)),
        Err(error) => Err(format!("{program} cannot be run: {error}")),
    }
}

/// Whether a missing tool chain is a failure: `SKYLARK_INTEROP=required`, or `full` for all numbers as well.
fn is_required() -> bool {
    std::env::var_os("SKYLARK_INTEROP").is_some_and(|wish| wish == "required") || is_full()
}

/// Whether the heavy combinations run with all their messages and retries, not with a sample.
pub(crate) fn is_full() -> bool {
    std::env::var_os("SKYLARK_INTEROP").is_some_and(|wish| wish == "full")
}

/// What was built; if it could not be, the test says so and is over, or fails if it is required.
pub(crate) fn available<T>(built: &'static Result<T, String>) -> Option<&'static T> {
    let reason = match built {
        Ok(program) => return Some(program),
        Err(reason) => reason,
    };
    assert!(!is_required(), "SKYLARK_INTEROP is set, but {reason}");
    // Past the capture of test output: a suite that skips in silence looks like one that passes.
    writeln!(std::io::stderr(), "interop: skipped, {reason}").ok();
    None
}

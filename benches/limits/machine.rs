//! Where a run happened: without that no figure means anything.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Instant;

use serde_json::{Value, json};

/// Facts about the machine, the disk and the code.
#[derive(Default)]
pub struct Machine {
    facts: Vec<(&'static str, String)>,
}

impl Machine {
    /// This machine, with the file system that holds `directory`.
    pub fn find(directory: &Path) -> Self {
        let mount = mount_of(directory);
        let field = |index: usize| {
            let fields = mount.as_ref().map(|line| line.split_whitespace().nth(index).unwrap_or_default());
            fields.unwrap_or("unknown").to_owned()
        };
        let facts = vec![
            ("processor", cpu_model()),
            ("cores", std::thread::available_parallelism().map_or(0, usize::from).to_string()),
            ("memory", memory()),
            ("kernel", first_line("/proc/sys/kernel/osrelease")),
            ("disk", field(0)),
            ("file system", field(2)),
            ("mounted", field(3)),
            ("commit", commit()),
            ("load before the run", first_line("/proc/loadavg")),
            ("reading the clock", format!("{:.0} ns", clock_ns())),
        ];
        Self { facts }
    }

    /// As a table.
    pub fn markdown(&self) -> String {
        let rows: String = self.facts.iter().map(|(fact, value)| format!("| {fact} | {value} |\n")).collect();
        format!("| | |\n|---|---|\n{rows}")
    }

    /// As an object.
    pub fn to_json(&self) -> Value {
        self.facts
            .iter()
            .map(|(fact, value)| ((*fact).to_owned(), json!(value)))
            .collect::<serde_json::Map<_, _>>()
            .into()
    }
}

fn first_line(path: &str) -> String {
    let text = fs::read_to_string(path).unwrap_or_default();
    text.lines().next().unwrap_or("unknown").to_owned()
}

fn value_of(path: &str, key: &str) -> String {
    let text = fs::read_to_string(path).unwrap_or_default();
    let line = text.lines().find(|line| line.starts_with(key));
    line.and_then(|line| line.split_once(':')).map_or("unknown", |(_, value)| value.trim()).to_owned()
}

fn cpu_model() -> String {
    value_of("/proc/cpuinfo", "model name")
}

fn memory() -> String {
    value_of("/proc/meminfo", "MemTotal")
}

/// The line of the mount table whose mount point is the longest that holds `directory`.
fn mount_of(directory: &Path) -> Option<String> {
    let directory = fs::canonicalize(directory).ok()?;
    let mounts = fs::read_to_string("/proc/mounts").ok()?;
    let point = |line: &str| line.split_whitespace().nth(1).map(str::to_owned);
    let holding = mounts.lines().filter(|line| point(line).is_some_and(|point| directory.starts_with(point)));
    holding.max_by_key(|line| point(line).map_or(0, |point| point.len())).map(str::to_owned)
}

fn commit() -> String {
    let git = |arguments: &[&str]| {
        let output = Command::new("git").args(arguments).output().ok()?;
        output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
    };
    let Some(commit) = git(&["rev-parse", "--short", "HEAD"]) else { return "unknown".to_owned() };
    let changed = git(&["status", "--porcelain", "--untracked-files=no"]).is_none_or(|text| !text.is_empty());
    if changed { format!("{commit}, and changes") } else { commit }
}

/// What it costs to read the clock, which every measured append does once.
fn clock_ns() -> f64 {
    const READS: u32 = 100_000;
    let started = Instant::now();
    (0..READS).for_each(|_| {
        std::hint::black_box(Instant::now());
    });
    started.elapsed().as_secs_f64() * 1e9 / f64::from(READS)
}

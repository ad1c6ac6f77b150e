//! Apache's `mqadmin` shows the same of Skylark as of Apache's own broker in the same state, row by row and column
//! by column. Columns that measure instead of stating are listed in `mqadmin/volatile-columns.txt`; of those only
//! the form has to agree (`0.00(0,0ms)`, say), so a field that the tool did not get still shows.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;
use std::time::{Duration, Instant};

use crate::apache::{Apache, mqadmin};
use crate::support::server::Server;
use crate::toolchain;

const COMMAND_WITHIN: Duration = Duration::from_secs(90);
/// Apache makes some of its own topics, and both register new ones, a moment after they could be asked.
const SETTLED_WITHIN: Duration = Duration::from_secs(60);

/// How an output is read.
#[derive(Clone, Copy, PartialEq)]
enum Form {
    /// Columns under a heading that begins with `#`; the order of rows says nothing.
    Table,
    /// Lines of which the order says nothing.
    Rows,
    /// Text in which everything counts.
    Text,
}

/// What is run on both, in this order; `{broker}` stands for the broker's address.
const CASES: [(&str, Form); 16] = [
    ("clusterList", Form::Table),
    ("clusterList -m", Form::Table),
    ("topicList", Form::Rows),
    ("topicList -c", Form::Table),
    ("topicRoute -t TBW102 -l", Form::Table),
    ("topicRoute -t SCHEDULE_TOPIC_XXXX", Form::Text),
    ("updateTopic -c DefaultCluster -t ByCluster", Form::Text),
    ("updateTopic -b {broker} -t ByBroker -r 3 -w 5 -p 4", Form::Text),
    ("topicRoute -t ByCluster", Form::Text),
    ("topicRoute -t ByBroker", Form::Text),
    ("topicRoute -t ByBroker -l", Form::Table),
    // An existing topic gets another shape.
    ("updateTopic -c DefaultCluster -t ByBroker -r 6 -w 2 -p 6", Form::Text),
    ("topicRoute -t ByBroker", Form::Text),
    ("topicList", Form::Rows),
    ("topicList -c", Form::Table),
    ("clusterList", Form::Table),
];

/// Runs every command against both and compares what it shows.
pub(crate) fn compare() {
    let Some(class_path) = toolchain::apache() else { return };
    let skylark = Server::start();
    let apache = Apache::start(class_path);
    let volatile = Volatile::read();
    let run = |nameserver: SocketAddr, broker: SocketAddr, command: &str, form| {
        shown(class_path, skylark.scratch(), nameserver, broker, command, form)
    };
    let mut differences = Vec::new();
    for (command, form) in CASES {
        let deadline = Instant::now() + SETTLED_WITHIN;
        let found = loop {
            let theirs = run(apache.nameserver, apache.broker, command, form);
            let ours = run(skylark.nameserver(), skylark.broker(), command, form);
            let found = differ(command, &theirs, &ours, &volatile);
            if found.is_empty() || form == Form::Text || Instant::now() >= deadline {
                break found;
            }
        };
        println!("{} mqadmin {command}", if found.is_empty() { "ok" } else { "FAILED" });
        for difference in &found {
            println!("  {difference}");
        }
        differences.extend(found);
    }
    assert!(differences.is_empty(), "{}\n{}", differences.join("\n"), skylark.transcript());
}

/// One row of output: column to cell. Lines that are no table have one column without a name.
type Row = BTreeMap<String, String>;

fn shown(
    class_path: &str,
    home: &Path,
    nameserver: SocketAddr,
    broker: SocketAddr,
    command: &str,
    form: Form,
) -> Vec<Row> {
    let arguments: Vec<String> =
        command.split(' ').map(|word| word.replace("{broker}", &broker.to_string())).collect();
    let finished = mqadmin(class_path, home, nameserver, &arguments).finish(COMMAND_WITHIN).succeeded();
    // Its logging begins with a report on its own configuration.
    let printed =
        finished.lines.iter().filter(|line| !line.contains(" |-INFO in ") && !line.contains(" |-WARN in "));
    let lines = printed.map(|line| line.replace(&broker.to_string(), "{broker}"));
    let lines: Vec<String> =
        lines.map(|line| line.trim_end().to_owned()).filter(|line| !line.is_empty()).collect();
    // The tool ends with 0 whatever happened, and tells of failures on standard error only.
    assert!(!lines.is_empty(), "mqadmin {command} shows nothing\n{}", finished.transcript());
    let mut rows = match form {
        Form::Table => table(&lines),
        Form::Rows | Form::Text => lines.into_iter().map(|line| Row::from([(String::new(), line)])).collect(),
    };
    if form != Form::Text {
        rows.sort();
    }
    rows
}

/// Cells stand two spaces or more apart, and single spaces within them.
fn table(lines: &[String]) -> Vec<Row> {
    let cells = |line: &str| -> Vec<String> {
        line.split("  ").map(str::trim).filter(|cell| !cell.is_empty()).map(str::to_owned).collect()
    };
    let mut lines = lines.iter();
    // `#ReadQueue #WriteQueue` stand one space apart.
    let heading =
        lines.next().map(|line| line.split('#').map(str::trim).filter(|name| !name.is_empty()).collect());
    let heading: Vec<&str> = heading.unwrap_or_default();
    let name = |at: usize| heading.get(at).map_or_else(|| format!("column {at}"), |name| (*name).to_owned());
    let row =
        |line: &String| cells(line).into_iter().enumerate().map(|(at, cell)| (name(at), cell)).collect();
    lines.map(row).collect()
}

fn differ(command: &str, theirs: &[Row], ours: &[Row], volatile: &Volatile) -> Vec<String> {
    let mut found = Vec::new();
    for at in 0..theirs.len().max(ours.len()) {
        let (Some(their), Some(our)) = (theirs.get(at), ours.get(at)) else {
            found.push(format!(
                "mqadmin {command}: {} rows of Apache, {} of Skylark",
                theirs.len(),
                ours.len()
            ));
            let only = |these: &[Row], those: &[Row]| -> Vec<Row> {
                these.iter().filter(|row| !those.contains(row)).cloned().collect()
            };
            found.push(format!(
                "  only Apache: {:?}\n  only Skylark: {:?}",
                only(theirs, ours),
                only(ours, theirs)
            ));
            break;
        };
        let columns = their.keys().chain(our.keys().filter(|column| !their.contains_key(*column)));
        for column in columns {
            let same = match (their.get(column), our.get(column)) {
                (Some(their), Some(our)) if volatile.contains(command, column) => form(their) == form(our),
                (their, our) => their == our,
            };
            if !same {
                let (their, our) = (their.get(column), our.get(column));
                found.push(format!(
                    "mqadmin {command}, row {at}, {column}: Apache {their:?}, Skylark {our:?}"
                ));
            }
        }
    }
    found
}

/// A cell with every run of digits, decimal point included, as one `9`.
fn form(cell: &str) -> String {
    let mut form = String::new();
    for character in cell.chars() {
        let digit = character.is_ascii_digit() || (character == '.' && form.ends_with('9'));
        match (digit, form.ends_with('9')) {
            (true, true) => {}
            (true, false) => form.push('9'),
            (false, _) => form.push(character),
        }
    }
    form
}

/// The columns whose values nobody could expect to agree.
struct Volatile(Vec<(&'static str, &'static str)>);

impl Volatile {
    fn read() -> Self {
        let text = include_str!("mqadmin/volatile-columns.txt");
        let entries = text.lines().filter(|line| !line.starts_with('#') && !line.is_empty());
        let entries = entries.map(|line| {
            let mut parts = line.split('|').map(str::trim);
            let (Some(command), Some(column), Some(_reason)) = (parts.next(), parts.next(), parts.next())
            else {
                panic!("not `command | column | reason`: {line}");
            };
            (command, column)
        });
        Self(entries.collect())
    }

    fn contains(&self, command: &str, column: &str) -> bool {
        self.0.contains(&(command, column))
    }
}

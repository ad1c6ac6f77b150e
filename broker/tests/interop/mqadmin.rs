//! Apache's `mqadmin` shows the same of Skylark as of Apache's own broker in the same state, row by row and column
//! by column. Columns that measure instead of stating are listed in `mqadmin/volatile-columns.txt`; of those only
//! the form has to agree (`0.00(0,0ms)`, say), so a field that the tool did not get still shows. Values that are meant
//! to differ are listed in `mqadmin/meant-differences.txt`, both of them. One thing is left out of what Apache shows:
//! see [`output::without_group_of_topics_name`].
//!
//! The state is made by one program on both at once, message for message with the same ids. It runs the commands
//! too, all in one JVM.

use std::io::{BufRead, BufReader, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::process::Command;
use std::time::{Duration, Instant};

use crate::apache::Apache;
use crate::scenario::JavaClient;
use crate::support::process::Process;
use crate::support::server::Server;
use crate::toolchain;

#[path = "mqadmin/cases.rs"]
mod cases;
#[path = "mqadmin/listed.rs"]
mod listed;
#[path = "mqadmin/output.rs"]
mod output;

use cases::{Case, LOADED, Sides, UNLOADED};
use listed::Listed;
use output::{Row, differ, is_of_group_of_topics_name, rows, without_group_of_topics_name};

const COMMAND_WITHIN: Duration = Duration::from_secs(90);
/// Apache makes some of its own topics, and both register new ones, a moment after they could be asked. All commands
/// together wait this long for it, so that many differences do not take many times as long to be told.
const PATIENCE: Duration = Duration::from_secs(60);
/// What a command that may be asked again has to wait before it is.
const BETWEEN: Duration = Duration::from_millis(500);
/// Statistics of a minute are kept in samples ten seconds apart: after two there is a rate.
const RATES_WITHIN: Duration = Duration::from_secs(45);

/// The name of the side that has what Apache's broker alone shows.
const APACHE: &str = "Apache";

/// Runs every command against both and compares what it shows.
pub(crate) fn compare() {
    let Some(class_path) = toolchain::apache() else { return };
    let Some(client) = JavaClient::built() else { return };
    // The watermarks that the tools show: Apache's, which are our defaults too.
    let skylark = Server::start_with(&["--disk-clean-percent=85", "--disk-refuse-percent=90"]);
    let apache = Apache::start(class_path);
    let mut tool = Tool::start(client, &skylark);
    let sides = [
        Side { name: APACHE, nameserver: apache.nameserver, broker: apache.broker },
        Side { name: "Skylark", nameserver: skylark.nameserver(), broker: skylark.broker() },
    ];
    let mut differences = run(&mut tool, &sides, false);
    differences.extend(rates(&mut tool, &sides, Instant::now() + RATES_WITHIN));
    assert!(differences.is_empty(), "{}\n{}", differences.join("\n"), skylark.transcript());
}

/// Both sides are Apache's: what differs then is volatile, or a command that does not do the same twice.
pub(crate) fn compare_apache_with_itself() {
    let Some(class_path) = toolchain::apache() else { return };
    let Some(client) = JavaClient::built() else { return };
    let both = [Apache::start(class_path), Apache::start(class_path)];
    // Only for its directory.
    let home = Server::start();
    let mut tool = Tool::start(client, &home);
    let sides = both.each_ref().map(|apache| Side {
        name: APACHE,
        nameserver: apache.nameserver,
        broker: apache.broker,
    });
    let mut differences = run(&mut tool, &sides, true);
    differences.extend(rates(&mut tool, &sides, Instant::now() + RATES_WITHIN));
    assert!(differences.is_empty(), "{}", differences.join("\n"));
}

/// One of the two brokers.
struct Side {
    name: &'static str,
    nameserver: SocketAddr,
    broker: SocketAddr,
}

fn run(tool: &mut Tool, sides: &[Side; 2], print: bool) -> Vec<String> {
    let listed = Listed::read();
    let prepared = tool.step(&format!("@prepare\t{}\t{}", sides[0].nameserver, sides[1].nameserver));
    let values = Sides::read(&prepared);
    let mut patience = PATIENCE;
    let mut differences = Vec::new();
    for case in UNLOADED {
        differences.extend(compare_case(tool, sides, &values, case, &listed, &mut patience, print));
    }
    tool.step("@load");
    for case in LOADED {
        differences.extend(compare_case(tool, sides, &values, case, &listed, &mut patience, print));
    }
    differences
}

fn compare_case(
    tool: &mut Tool,
    sides: &[Side; 2],
    values: &Sides,
    case: &Case,
    listed: &Listed,
    patience: &mut Duration,
    print: bool,
) -> Vec<String> {
    let begun = Instant::now();
    let (found, theirs) = loop {
        let [theirs, ours] = [0, 1].map(|side| tool.shown(case, &sides[side], values, side, listed));
        let found = match (theirs, &ours) {
            (Ok(theirs), Ok(ours)) => (differ(case, &theirs, ours, listed), theirs),
            (theirs, ours) => {
                let failures = [theirs.as_ref().err(), ours.as_ref().err()];
                (failures.into_iter().flatten().cloned().collect(), theirs.unwrap_or_default())
            }
        };
        if found.0.is_empty() || !case.settles || begun.elapsed() >= *patience {
            break found;
        }
        std::thread::sleep(BETWEEN);
    };
    if case.settles && !found.is_empty() {
        *patience = patience.saturating_sub(begun.elapsed());
    }
    let verdict = if found.is_empty() { "ok" } else { "FAILED" };
    println!("{verdict} mqadmin {} in {:.1?}", case.command, begun.elapsed());
    for difference in &found {
        println!("  {difference}");
    }
    if print {
        for row in theirs {
            println!("    {row:?}");
        }
    }
    found
}

/// Under load nothing may be zero that counts or measures it.
fn rates(tool: &mut Tool, sides: &[Side; 2], deadline: Instant) -> Vec<String> {
    let listed = Listed::read();
    let values = Sides::default();
    let mut failures = Vec::new();
    for side in sides {
        for (case, row_of, columns) in cases::NONZERO {
            let zero = loop {
                let shown = tool.shown(case, side, &values, 0, &listed);
                let zero: Vec<String> = match &shown {
                    Err(failure) => vec![failure.clone()],
                    Ok(rows) => {
                        let row = rows.iter().find(|row| row.values().any(|cell| cell.contains(row_of)));
                        let empty = Row::new();
                        let row = row.unwrap_or(&empty);
                        let zero = columns
                            .iter()
                            .filter(|column| !row.get(**column).is_some_and(|cell| nonzero(cell)));
                        zero.map(|column| format!("{column} is {:?} in {row:?}", row.get(*column))).collect()
                    }
                };
                if zero.is_empty() || Instant::now() >= deadline {
                    break zero;
                }
                std::thread::sleep(BETWEEN);
            };
            println!(
                "{} under load: {} of {}",
                if zero.is_empty() { "ok" } else { "FAILED" },
                case.command,
                side.name
            );
            let told =
                zero.iter().map(|what| format!("{} under load, mqadmin {}: {what}", side.name, case.command));
            failures.extend(told);
        }
    }
    tool.step("@rest");
    failures
}

/// Whether the first number in a cell is above zero.
fn nonzero(cell: &str) -> bool {
    let number: String =
        cell.chars().take_while(|character| character.is_ascii_digit() || *character == '.').collect();
    number.parse::<f64>().is_ok_and(|number| number > 0.0)
}

/// The program that runs the commands and keeps clients alive for them to find.
struct Tool {
    process: Process,
    answers: BufReader<TcpStream>,
}

/// What a command printed.
struct Printed {
    out: Vec<String>,
    err: Vec<String>,
}

impl Tool {
    fn start(client: JavaClient, home: &Server) -> Self {
        let mut process = client.start_with(home, "mqadmin", &[], |command: &mut Command| {
            // `consumerStatus` writes a file where it is started.
            command.current_dir(home.scratch());
        });
        let line = process.line(COMMAND_WITHIN, |line| line.starts_with("listening "));
        let port: u16 = line["listening ".len()..].parse().expect("a port");
        let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).expect("it listens");
        stream.set_read_timeout(Some(COMMAND_WITHIN)).expect("a time-out above zero");
        Self { process, answers: BufReader::new(stream) }
    }

    /// Has the program that keeps the state take a step.
    fn step(&mut self, line: &str) -> Vec<String> {
        let said = self.ask(line);
        assert!(said.err.is_empty(), "{line}: {}", said.err.join("\n"));
        said.out
    }

    /// Sends a line and reads everything that is said to it.
    fn ask(&mut self, line: &str) -> Printed {
        let mut printed = Printed { out: Vec::new(), err: Vec::new() };
        self.answers.get_mut().write_all(format!("{line}\n").as_bytes()).expect("the program reads");
        loop {
            let mut said = String::new();
            let read =
                self.answers.read_line(&mut said).unwrap_or_else(|error| panic!("after {line:?}: {error}"));
            assert!(read > 0, "the program ended after {line:?}\n{}", self.process.transcript());
            let said = said.trim_end_matches('\n');
            match said.split_once(' ') {
                Some(("out", text)) => printed.out.push(text.to_owned()),
                Some(("err", text)) => printed.err.push(text.to_owned()),
                _ if said == "end" => return printed,
                _ => panic!("{said:?} after {line:?}"),
            }
        }
    }

    /// Runs a case against one side, and reads its output.
    fn shown(
        &mut self,
        case: &Case,
        side: &Side,
        values: &Sides,
        number: usize,
        listed: &Listed,
    ) -> Result<Vec<Row>, String> {
        let broker = side.broker.to_string();
        let words =
            case.command.split(' ').map(|word| values.fill(number, word).replace("{broker}", &broker));
        let words: Vec<String> = words.collect();
        let printed = self.ask(&format!("{}\t-n\t{}", words.join("\t"), side.nameserver));
        // The tool ends with 0 whatever happened, and tells of failures on standard error.
        let failure = printed.err.iter().find(|line| line.contains("Exception"));
        if let Some(failure) = failure.filter(|_| !case.fails) {
            return Err(format!("mqadmin {} of {}: {failure}", case.command, side.name));
        }
        let nameserver = side.nameserver.to_string();
        let lines = printed.out.iter().chain(printed.err.iter().filter(|_| case.fails));
        let lines = lines.map(|line| line.replace(&broker, "{broker}").replace(&nameserver, "{nameserver}"));
        let mut lines: Vec<String> = lines.map(|line| values.blank(number, line.trim_end())).collect();
        if side.name == APACHE {
            lines = without_group_of_topics_name(case, lines);
        }
        if lines.iter().all(String::is_empty) {
            let told = printed.err.join("\n");
            return Err(format!("mqadmin {} of {} shows nothing\n{told}", case.command, side.name));
        }
        let mut rows = rows(case, &lines, listed);
        if side.name == APACHE {
            rows.retain(|row| !is_of_group_of_topics_name(row));
        }
        Ok(rows)
    }
}

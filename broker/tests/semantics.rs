//! `SEMANTICS.md` tells users what to run, to read and to type: all of that is there under these names.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::process::Command;

/// The tests that the document names, by the binary that they are in.
const SCENARIOS: [&str; 2] = ["interop", "interop_clients"];
/// Beginnings of their names.
const CLIENTS: [&str; 2] = ["java_", "go_"];

fn document() -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("SEMANTICS.md");
    fs::read_to_string(path).expect("the document is in the crate")
}

/// What stands between backticks within lines, each with its line, and the lines of code blocks.
fn code(document: &str) -> Vec<(&str, &str)> {
    let mut found = Vec::new();
    let mut is_block = false;
    for line in document.lines() {
        if line.starts_with("```") {
            is_block = !is_block;
        } else if is_block {
            found.push((line, line));
        } else {
            found.extend(line.split('`').skip(1).step_by(2).map(|span| (span, line)));
        }
    }
    found
}

/// The names of a test binary's tests.
fn tests(binary: &str) -> BTreeSet<String> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests").join(binary).with_extension("rs");
    let source = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let lines: Vec<&str> = source.lines().collect();
    let marked = lines.windows(2).filter(|pair| pair[0] == "#[test]");
    marked.filter_map(|pair| Some(pair[1].strip_prefix("fn ")?.split_once('(')?.0.to_owned())).collect()
}

/// What `skylark` says of a command; nothing if there is no such command.
fn help(path: &[&str]) -> Option<String> {
    let output = Command::new(env!("CARGO_BIN_EXE_skylark")).args(path).arg("--help").output();
    let output = output.expect("the binary was built");
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).into_owned())
}

/// The long options in a piece of text.
fn options(text: &str) -> impl Iterator<Item = &str> {
    let is_name = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    let words = text.split(move |c: char| !is_name(c));
    words.filter(|word| word.len() > 2 && word.starts_with("--"))
}

/// Whether a help text has this option, and not only one that begins alike.
fn has(help: &str, option: &str) -> bool {
    options(help).any(|known| known == option)
}

/// The commands that `skylark a b, c` or `skylark a b|c` names: `a b` and `a c`.
fn commands(span: &str) -> Vec<Vec<&str>> {
    let mut words = span.split(' ').skip_while(|word| *word != "skylark").skip(1);
    let Some(command) = words.next() else { return Vec::new() };
    let known = help(&[command]).unwrap_or_else(|| panic!("`{span}`: there is no `skylark {command}`"));
    if !known.contains("\nCommands:") {
        return vec![vec![command]];
    }
    let mut found = Vec::new();
    for word in words {
        found.extend(word.trim_end_matches(',').split('|').map(|sub| vec![command, sub]));
        if !word.ends_with(',') {
            break;
        }
    }
    found
}

#[test]
fn every_file_it_points_to_is_there() {
    let document = document();
    let links: Vec<&str> =
        document.split("](").skip(1).filter_map(|rest| Some(rest.split_once(')')?.0)).collect();
    assert!(links.len() > 20, "{links:?}");
    for link in links {
        let path = link.split('#').next().expect("a split has a first part");
        assert!(Path::new(env!("CARGO_MANIFEST_DIR")).join(path).exists(), "{link}");
    }
}

#[test]
fn every_scenario_it_names_runs_under_that_name() {
    let document = document();
    let scenarios: BTreeSet<String> = SCENARIOS.iter().flat_map(|binary| tests(binary)).collect();
    let mut named = 0;
    for (span, _) in code(&document) {
        if CLIENTS.iter().any(|client| span.starts_with(client)) {
            assert!(scenarios.iter().any(|test| test.starts_with(span)), "there is no {span}");
            named += 1;
        }
        let words: Vec<&str> = span.split(' ').collect();
        if let Some(at) = words.iter().position(|word| *word == "--test") {
            let (binary, filter) = (words[at + 1], words[at + 2]);
            assert!(tests(binary).iter().any(|test| test.contains(filter)), "`{span}` runs nothing");
            named += 1;
        }
    }
    assert!(named > 20, "{named}");
}

#[test]
fn every_command_and_option_it_names_is_known() {
    let document = document();
    let serve = help(&["serve"]).expect("there is such a command");
    let mut checked = 0;
    // Of a line, the help of all commands that it names: options stand beside them in code of their own.
    let mut beside: BTreeMap<&str, String> = BTreeMap::new();
    let code = code(&document);
    for (span, line) in code.iter().filter(|(span, _)| span.starts_with("skylark")) {
        for command in commands(span) {
            let text = help(&command).unwrap_or_else(|| panic!("`{span}`: there is no {command:?}"));
            beside.entry(line).or_default().push_str(&text);
            checked += 1;
        }
    }
    // Those of other programs are theirs.
    let ours = code.iter().filter(|(span, _)| span.starts_with("--") || span.starts_with("skylark"));
    for (span, line) in ours {
        for option in options(span) {
            let is_known = has(&serve, option) || beside.get(line).is_some_and(|text| has(text, option));
            assert!(is_known, "`{span}`: there is no {option}");
            checked += 1;
        }
    }
    assert!(checked > 20, "{checked}");
}

//! Reads what `mqadmin` prints, and compares it.

use std::collections::BTreeMap;

use super::cases::{Case, Form, SETTINGS};
use super::listed::Listed;

/// One row of output: column to cell. What has no column stands under an empty name.
pub(super) type Row = BTreeMap<String, String>;

/// The rows of an output, in an order that says nothing where the command's says nothing.
pub(super) fn rows(case: &Case, lines: &[String], listed: &Listed) -> Vec<Row> {
    let mut rows = match case.form {
        Form::Table => tables(lines),
        Form::Rows | Form::Text => text(lines),
        Form::Fields | Form::Settings => vec![lines.iter().filter_map(|line| field(line)).collect()],
        Form::Items => lines.iter().filter(|line| !line.is_empty()).map(|line| items(line)).collect(),
    };
    if case.form != Form::Text {
        // Volatile cells must not decide which rows are compared with each other.
        rows.sort_by_cached_key(|row| {
            let stable = |column: &String, cell: &String| {
                if listed.is_volatile(case.command, column) { form(cell) } else { cell.clone() }
            };
            row.iter().map(|(column, cell)| stable(column, cell)).collect::<Vec<_>>()
        });
    }
    rows
}

/// Without the group that Apache's broker makes of a topic's name: 5.3.3 counts it among the topic's readers once
/// anyone subscribes to the topic (apache/rocketmq#9443, mended since). Its tools show the group like any other.
pub(super) fn without_group_of_topics_name(case: &Case, lines: Vec<String>) -> Vec<String> {
    let Some((_, rest)) = case.command.split_once(" -t ") else { return lines };
    let topic = rest.split(' ').next().unwrap_or(rest);
    let mut text = lines.join("\n");
    let track = format!("MessageTrack [consumerGroup={topic}, ");
    while let Some(begin) = text.find(&track) {
        let after = text[begin + track.len()..].find(']').map(|end| begin + track.len() + end + 1);
        text.replace_range(begin..after.unwrap_or(text.len()), "");
    }
    text.lines().map(str::to_owned).collect()
}

/// Whether a row is about the group that [`without_group_of_topics_name`] is about.
pub(super) fn is_of_group_of_topics_name(row: &Row) -> bool {
    row.get("Topic").is_some_and(|topic| row.get("Consumer Group") == Some(topic))
}

fn text(lines: &[String]) -> Vec<Row> {
    let lines = lines.iter().filter(|line| !line.is_empty());
    lines.map(|line| Row::from([(String::new(), line.clone())])).collect()
}

/// Tables, each with a heading that begins with `#`, and fields around them.
fn tables(lines: &[String]) -> Vec<Row> {
    let mut rows = Vec::new();
    let mut heading: Option<Vec<&str>> = None;
    for line in lines {
        if line.starts_with('#') {
            // `#ReadQueue #WriteQueue` stand one space apart.
            heading = Some(line.split('#').map(str::trim).filter(|name| !name.is_empty()).collect());
        } else if line.is_empty() {
            heading = None;
        } else if let Some(heading) = &heading {
            let name =
                |at: usize| heading.get(at).map_or_else(|| format!("column {at}"), |name| (*name).to_owned());
            rows.push(cells(line).into_iter().enumerate().map(|(at, cell)| (name(at), cell)).collect());
        } else {
            rows.push(Row::from([field(line).unwrap_or_else(|| (String::new(), line.clone()))]));
        }
    }
    rows
}

/// Cells stand two spaces or more apart, and single spaces within them; numbers are cells of their own.
fn cells(line: &str) -> Vec<String> {
    let mut cells = Vec::new();
    for cell in line.split("  ").map(str::trim).filter(|cell| !cell.is_empty()) {
        // A cell that fills its column is followed by a single space.
        let words: Vec<&str> = cell.split(' ').collect();
        let all_numbers = words.iter().all(|word| word.parse::<f64>().is_ok());
        if all_numbers {
            cells.extend(words.into_iter().map(str::to_owned));
        } else {
            cells.push(cell.to_owned());
        }
    }
    // Two commands leave cells blank.
    if cells.last().is_some_and(|cell| cell == "NO_CONSUMER") {
        cells.insert(1, "-".to_owned());
        cells.insert(4, "-".to_owned());
    }
    if let Some(at) = cells.iter().position(|cell| cell == "OFFLINE") {
        cells.insert(at + 1, "-".to_owned());
        cells.insert(at + 2, "-".to_owned());
    }
    cells
}

/// `name: value` or `name = value`.
fn field(line: &str) -> Option<(String, String)> {
    let at = line.find(": ").or_else(|| line.find('=')).or_else(|| line.find(':'))?;
    let (name, value) = line.split_at(at);
    // Of a whole cluster, each begins with its broker.
    let name = name.strip_prefix("{broker} ").unwrap_or(name);
    // Named for a directory, which differs.
    let name = name.find("commitLogDiskRatio_").map_or(name, |at| &name[..at + "commitLogDiskRatio_".len()]);
    Some((name.trim().to_owned(), value[1..].trim().to_owned()))
}

/// Every `name=value` of a line, with what is left of it.
fn items(line: &str) -> Row {
    let mut row = Row::new();
    let mut rest = Vec::new();
    let words = line.split([' ', ',', '[', ']', '{', '}', '(', ')']).filter(|word| !word.is_empty());
    for word in words {
        match word.split_once('=') {
            Some((name, value)) => {
                let same = row.keys().filter(|known| known.split('#').next() == Some(name)).count();
                let name = if same == 0 { name.to_owned() } else { format!("{name}#{same}") };
                row.insert(name, value.to_owned());
            }
            None => rest.push(word),
        }
    }
    row.insert(String::new(), rest.join(" "));
    row
}

/// What differs, a sentence each.
pub(super) fn differ(case: &Case, theirs: &[Row], ours: &[Row], listed: &Listed) -> Vec<String> {
    let command = case.command;
    if theirs.len() != ours.len() {
        let only = |these: &[Row], those: &[Row]| -> Vec<Row> {
            these.iter().filter(|row| !those.contains(row)).cloned().collect()
        };
        return vec![format!(
            "mqadmin {command}: {} rows of Apache, {} of Skylark\n  only Apache: {:?}\n  only Skylark: {:?}",
            theirs.len(),
            ours.len(),
            only(theirs, ours),
            only(ours, theirs)
        )];
    }
    let mut found = Vec::new();
    for (at, (their, our)) in theirs.iter().zip(ours).enumerate() {
        let columns = their.keys().chain(our.keys().filter(|column| !their.contains_key(*column)));
        for column in columns {
            let same = match (their.get(column), our.get(column)) {
                (Some(their), Some(our)) if listed.is_volatile(command, column) => form(their) == form(our),
                // A setting that does not exist here is not shown either, unless tools read it.
                (Some(_), None) if case.form == Form::Settings => !SETTINGS.contains(&column.as_str()),
                (Some(their), Some(our)) if listed.are_meant(command, column, [their, our]) => true,
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

/// A cell with every run of digits, decimal point included, as one `9`, every id as `{id}` and every hash of a Java
/// object as `{hash}`. Averages over several times are as many as there have been times for.
fn form(cell: &str) -> String {
    let is_hex = |word: &str| word.bytes().all(|byte| byte.is_ascii_hexdigit());
    // An offset id, or a client's id with an address of version 4 or 6.
    if cell.len() >= 32 && is_hex(cell) {
        return "{id}".to_owned();
    }
    if cell.starts_with('/') && !cell.starts_with("/127.") {
        return "{path}".to_owned();
    }
    if let Some((class, hash)) = cell.rsplit_once('@')
        && is_hex(hash)
    {
        return format!("{class}@{{hash}}");
    }
    let mut form = String::new();
    for character in cell.chars() {
        let digit = character.is_ascii_digit() || (character == '.' && form.ends_with('9'));
        match (digit, form.ends_with('9')) {
            (true, true) => {}
            (true, false) => form.push('9'),
            (false, _) => form.push(character),
        }
    }
    while form.contains("9 9") {
        form = form.replace("9 9", "9");
    }
    form
}

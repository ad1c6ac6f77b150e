//! What the committed lists say about columns: those that measure, and those that are meant to differ.

/// Both lists.
pub(super) struct Listed {
    volatile: Vec<(&'static str, &'static str)>,
    meant: Vec<Meant>,
}

/// A difference that is meant.
struct Meant {
    command: &'static str,
    column: &'static str,
    /// Apache's value and Skylark's.
    values: [&'static str; 2],
}

impl Listed {
    pub(super) fn read() -> Self {
        let volatile = entries(include_str!("volatile-columns.txt"), |[commands, columns, _reason]| {
            let pairs = |command| columns.split(", ").map(move |column| (command, column));
            commands.split(", ").flat_map(pairs).collect()
        });
        let meant =
            entries(include_str!("meant-differences.txt"), |[command, column, theirs, ours, _reason]| {
                vec![Meant { command, column, values: [theirs, ours] }]
            });
        Self { volatile, meant }
    }

    /// Whether nobody could expect the values of a column to agree.
    pub(super) fn is_volatile(&self, command: &str, column: &str) -> bool {
        self.volatile.iter().any(|(for_command, for_column)| {
            // The same name a second time in one line.
            let name_of_column = column.split('#').next().unwrap_or(column);
            let same = match for_column.split_once('*') {
                Some((beginning, end)) => column.starts_with(beginning) && column.ends_with(end),
                None => *for_column == name_of_column,
            };
            same && is_for(for_command, command)
        })
    }

    /// Whether a column is meant to have just these values, Apache's and Skylark's.
    pub(super) fn are_meant(&self, command: &str, column: &str, values: [&String; 2]) -> bool {
        let found = |meant: &Meant| {
            is_for(meant.command, command) && meant.column == column && values == meant.values
        };
        self.meant.iter().any(found)
    }
}

/// Whether an entry, of a command's first word or of the whole line, is about this command.
fn is_for(entry: &str, command: &str) -> bool {
    let name = command.split(' ').next().unwrap_or(command);
    entry == name || entry == command
}

/// What the lines of a list say, each so many parts between `|`.
fn entries<const PARTS: usize, T>(
    text: &'static str,
    entry: impl Fn([&'static str; PARTS]) -> Vec<T>,
) -> Vec<T> {
    let lines = text.lines().filter(|line| !line.starts_with('#') && !line.is_empty());
    let lines = lines.map(|line| {
        let parts: Vec<&str> = line.split('|').map(str::trim).collect();
        entry(parts.try_into().unwrap_or_else(|parts| panic!("not {PARTS} parts, but {parts:?}")))
    });
    lines.flatten().collect()
}

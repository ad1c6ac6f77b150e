//! A broker's and a nameserver's configuration as text: lines `name=value`, as Java reads properties.
//!
//! Code 25 changes a broker's and 318 a nameserver's; the body is such text. 26 and 319 are answered with it.

use std::fmt::Write;

use crate::header::FieldError;

header_fields! {
    /// What answers code 26; the body is the configuration's text.
    BrokerConfigResponse<'a> {
        /// JSON of the configuration's [`DataVersion`](super::register::DataVersion).
        version: &'a str = "version",
    }
}

/// Reads a configuration's text: names and values in their order. Of equal names the last counts.
///
/// As Java reads properties: a line ends the name at `=`, `:` or white space; `\` escapes what stands behind it
/// and joins lines; `#` and `!` begin comments.
///
/// # Errors
/// When it is not UTF-8, or a `\u` is not followed by four hexadecimal digits that are a character.
pub fn read(text: &[u8]) -> Result<Vec<(String, String)>, FieldError> {
    const WHAT: &str = "configuration";
    let text = std::str::from_utf8(text).map_err(|error| FieldError::body(WHAT, error))?;
    let text = text.replace("\r\n", "\n");
    let mut lines = text.split(['\n', '\r']);
    let mut settings = Vec::new();
    while let Some(line) = lines.next() {
        let mut line = line.trim_start_matches(BLANK).to_owned();
        if line.is_empty() || line.starts_with(['#', '!']) {
            continue;
        }
        while ends_in_escape(&line) {
            line.pop();
            let Some(next) = lines.next() else { break };
            line.push_str(next.trim_start_matches(BLANK));
        }
        let (name, value) = split(&line);
        let unescaped = |text| unescape(text).map_err(|reason| FieldError::body(WHAT, reason));
        settings.push((unescaped(name)?, unescaped(value)?));
    }
    Ok(settings)
}

/// Writes a configuration's text, so that Java reads every name and value as it is given here.
pub fn write<'a>(settings: impl IntoIterator<Item = (&'a str, &'a str)>) -> Vec<u8> {
    let mut text = String::new();
    for (name, value) in settings {
        escape(name, true, &mut text);
        text.push('=');
        escape(value, false, &mut text);
        text.push('\n');
    }
    text.into_bytes()
}

const BLANK: [char; 3] = [' ', '\t', '\x0C'];

/// Whether an odd number of backslashes ends the line.
fn ends_in_escape(line: &str) -> bool {
    line.bytes().rev().take_while(|&byte| byte == b'\\').count() % 2 == 1
}

/// Name and value, both still escaped.
fn split(line: &str) -> (&str, &str) {
    let mut escaped = false;
    let end = line.find(|character: char| {
        let ends = !escaped && (matches!(character, '=' | ':') || BLANK.contains(&character));
        escaped = !escaped && character == '\\';
        ends
    });
    let (name, rest) = line.split_at(end.unwrap_or(line.len()));
    let rest = rest.trim_start_matches(BLANK);
    let rest = rest.strip_prefix(['=', ':']).unwrap_or(rest);
    (name, rest.trim_start_matches(BLANK))
}

fn unescape(text: &str) -> Result<String, String> {
    let mut units = Vec::new();
    let mut characters = text.chars();
    while let Some(character) = characters.next() {
        let plain = match character {
            '\\' => match characters.next() {
                Some('t') => '\t',
                Some('n') => '\n',
                Some('r') => '\r',
                Some('f') => '\x0C',
                Some('u') => {
                    let digits = characters.as_str().get(..4);
                    let unit = digits
                        .filter(|digits| digits.bytes().all(|digit| digit.is_ascii_hexdigit()))
                        .and_then(|digits| u16::from_str_radix(digits, 16).ok())
                        .ok_or(r"\u is not followed by four hexadecimal digits")?;
                    units.push(unit);
                    characters = characters.as_str()[4..].chars();
                    continue;
                }
                Some(other) => other,
                None => break,
            },
            plain => plain,
        };
        units.extend_from_slice(plain.encode_utf16(&mut [0; 2]));
    }
    String::from_utf16(&units).map_err(|_| r"half a character is escaped with \u".to_owned())
}

fn escape(text: &str, is_name: bool, into: &mut String) {
    for (at, character) in text.chars().enumerate() {
        match character {
            '\\' => into.push_str(r"\\"),
            '\n' => into.push_str(r"\n"),
            '\r' => into.push_str(r"\r"),
            '\t' => into.push_str(r"\t"),
            '\x0C' => into.push_str(r"\f"),
            ' ' if is_name || at == 0 => into.push_str(r"\ "),
            '=' | ':' | '#' | '!' if is_name => {
                into.push('\\');
                into.push(character);
            }
            // Java reads the bytes as Latin-1.
            ' '..='~' => into.push(character),
            _ => {
                for unit in character.encode_utf16(&mut [0; 2]) {
                    write!(into, "\\u{unit:04X}").expect("writing to a string does not fail");
                }
            }
        }
    }
}

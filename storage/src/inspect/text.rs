//! Items as lines of text: for a person, and for programs.

use std::io::{self, Write};

use super::item::{Item, RecordItem};
use crate::record::Kind;

/// A field's value.
#[derive(Clone, Copy, Debug)]
pub(super) enum Value<'a> {
    Number(u64),
    /// Eight digits: a checksum.
    Hex(u32),
    Name(&'a str),
    /// Not known, or there is none.
    None,
}

/// How items are written.
#[derive(Clone, Copy)]
pub struct Format {
    /// One JSON object per item, instead of a word and `field=value` pairs.
    pub json: bool,
    /// Whether records show their payload, in hexadecimal digits.
    pub payload: bool,
    /// The name of a kind, which follows its number.
    pub kind_name: fn(Kind) -> Option<&'static str>,
}

impl Default for Format {
    /// As `FORMAT.md` describes it.
    fn default() -> Self {
        Self { json: false, payload: false, kind_name: |_| None }
    }
}

impl Format {
    /// Writes one line.
    ///
    /// # Errors
    /// When `to` refuses.
    pub fn write(&self, item: &Item<'_>, to: &mut dyn Write) -> io::Result<()> {
        let mut line = Line { json: self.json, bytes: Vec::with_capacity(160) };
        line.begin(item.name());
        item.fields(&mut |field, value| {
            line.field(field, value);
            if let (Item::Record(record) | Item::Padding(record), "kind") = (item, field)
                && let Some(name) = (self.kind_name)(record.header.fields().kind)
            {
                line.field("name", Value::Name(name));
            }
        });
        if let Item::Record(RecordItem { payload, .. }) = item
            && self.payload
        {
            let digits: String = payload.iter().map(|byte| format!("{byte:02x}")).collect();
            line.field("payload", Value::Name(&digits));
        }
        line.end();
        to.write_all(&line.bytes)
    }
}

struct Line {
    json: bool,
    bytes: Vec<u8>,
}

impl Line {
    fn begin(&mut self, name: &str) {
        if self.json {
            self.text("{\"item\":");
            self.quoted(name);
        } else {
            self.text(name);
        }
    }

    fn field(&mut self, field: &str, value: Value<'_>) {
        if self.json {
            self.text(",");
            self.quoted(field);
            self.text(":");
        } else {
            self.text(" ");
            self.text(field);
            self.text("=");
        }
        match value {
            Value::Number(number) => self.text(&number.to_string()),
            Value::Hex(number) if self.json => self.quoted(&format!("{number:08x}")),
            Value::Hex(number) => self.text(&format!("{number:08x}")),
            Value::Name(name) if self.json => self.quoted(name),
            Value::Name(name) => self.text(name),
            Value::None => self.text(if self.json { "null" } else { "-" }),
        }
    }

    fn end(&mut self) {
        self.text(if self.json { "}\n" } else { "\n" });
    }

    fn text(&mut self, text: &str) {
        self.bytes.extend_from_slice(text.as_bytes());
    }

    fn quoted(&mut self, text: &str) {
        self.text("\"");
        for character in text.chars() {
            match character {
                '"' | '\\' => self.text(&format!("\\{character}")),
                control if control < ' ' => self.text(&format!("\\u{:04x}", u32::from(control))),
                plain => self.text(plain.encode_utf8(&mut [0; 4])),
            }
        }
        self.text("\"");
    }
}

//! JSON as RocketMQ's peers write and read it, which is not quite JSON.
//!
//! Java's serializer leaves numeric keys unquoted (`{0:"127.0.0.1:10911"}`) and writes maps whose keys are
//! objects with the object as the key (`{{"topic":"T"}:1}`). [`read`] takes both, [`write_object_keys`] writes
//! the second. Clients put numbers into strings and the reverse: `lenient` has the readers for that.

use std::borrow::Cow;
use std::io;

use bytes::{BufMut, BytesMut};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::ser::Formatter;

pub(crate) mod lenient;
mod standard;

pub use standard::standard;

/// Reads a body.
///
/// # Errors
/// When it is no JSON even with Java's oddities taken out, or not of this shape.
pub fn read<T: DeserializeOwned>(text: &[u8]) -> Result<T, serde_json::Error> {
    serde_json::from_slice(text).or_else(|error| match standard(text) {
        Some(Cow::Owned(quoted)) => serde_json::from_slice(&quoted),
        Some(Cow::Borrowed(_)) | None => Err(error),
    })
}

/// Writes a body, compact and with its keys in the order of the type.
pub fn to_vec<T: Serialize>(value: &T) -> Vec<u8> {
    serde_json::to_vec(value).expect("bodies have text or numbers as keys and no failing parts")
}

/// Writes a part of a body behind what is there.
pub fn write<T: Serialize + ?Sized>(value: &T, into: &mut Vec<u8>) {
    serde_json::to_writer(into, value).expect("bodies have text or numbers as keys and no failing parts");
}

/// Writes a body with every character beyond ASCII escaped, as route data are.
pub fn to_ascii_vec<T: Serialize>(value: &T) -> Vec<u8> {
    let mut text = Vec::new();
    let mut serializer = serde_json::Serializer::with_formatter(&mut text, Ascii);
    value.serialize(&mut serializer).expect("bodies have text or numbers as keys and no failing parts");
    text
}

/// Writes a map whose keys are objects or numbers, in the form that only RocketMQ's own readers take.
pub fn write_object_keys<'a, K: Serialize + 'a, V: Serialize + 'a>(
    entries: impl IntoIterator<Item = (&'a K, &'a V)>,
    into: &mut Vec<u8>,
) {
    into.push(b'{');
    for (index, (key, value)) in entries.into_iter().enumerate() {
        if index > 0 {
            into.push(b',');
        }
        write(key, into);
        into.push(b':');
        write(value, into);
    }
    into.push(b'}');
}

struct Ascii;

impl Formatter for Ascii {
    fn write_string_fragment<W: io::Write + ?Sized>(
        &mut self,
        writer: &mut W,
        fragment: &str,
    ) -> io::Result<()> {
        let mut rest = fragment;
        while let Some(at) = rest.find(|character: char| !character.is_ascii()) {
            let (plain, behind) = rest.split_at(at);
            writer.write_all(plain.as_bytes())?;
            let mut characters = behind.chars();
            for character in characters.by_ref().take(1) {
                for unit in character.encode_utf16(&mut [0; 2]) {
                    write!(writer, "\\u{unit:04X}")?;
                }
            }
            rest = characters.as_str();
        }
        writer.write_all(rest.as_bytes())
    }
}

/// Writes text as a JSON string, with only what must be escaped escaped.
pub fn write_string(text: &str, into: &mut BytesMut) {
    into.put_u8(b'"');
    let bytes = text.as_bytes();
    // Nearly all text is plain. Every byte is looked at, without a way out, so that many are at once.
    let is_plain =
        bytes.iter().fold(true, |plain, &byte| plain & (byte >= 0x20) & (byte != b'"') & (byte != b'\\'));
    if is_plain {
        into.put_slice(bytes);
        into.put_u8(b'"');
        return;
    }
    let mut from = 0;
    for (at, &byte) in bytes.iter().enumerate() {
        if byte >= 0x20 && byte != b'"' && byte != b'\\' {
            continue;
        }
        into.put_slice(&bytes[from..at]);
        from = at + 1;
        match byte {
            b'"' => into.put_slice(b"\\\""),
            b'\\' => into.put_slice(b"\\\\"),
            b'\n' => into.put_slice(b"\\n"),
            b'\r' => into.put_slice(b"\\r"),
            b'\t' => into.put_slice(b"\\t"),
            control => {
                const DIGITS: &[u8; 16] = b"0123456789abcdef";
                into.put_slice(b"\\u00");
                into.put_u8(DIGITS[usize::from(control >> 4)]);
                into.put_u8(DIGITS[usize::from(control & 0xF)]);
            }
        }
    }
    into.put_slice(&bytes[from..]);
    into.put_u8(b'"');
}

#[cfg(test)]
mod tests;

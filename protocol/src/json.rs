//! JSON as RocketMQ's peers write and read it.

use bytes::{BufMut, BytesMut};

/// Writes text as a JSON string, with only what must be escaped escaped.
pub fn write_string(text: &str, into: &mut BytesMut) {
    into.put_u8(b'"');
    let bytes = text.as_bytes();
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

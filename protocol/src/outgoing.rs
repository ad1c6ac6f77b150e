//! Frames on their way out: headers written by hand into the buffer that goes to the peer.

use std::fmt;

use bytes::{BufMut, Bytes, BytesMut};

use crate::code::ResponseCode;
use crate::frame::{Encoding, Frame, HEADER_BYTES_MAX, PREFIX_BYTES, prefix};
use crate::header::{FLAG_RESPONSE, Header, Language, VERSION};
use crate::json::write_string;
use crate::transport::Outbox;

/// A field's value. On the wire all of them are text: Go drops a frame with anything else.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Value<'a> {
    /// Text.
    Text(&'a str),
    /// A number, written in decimal.
    Number(i64),
    /// `true` or `false`.
    Flag(bool),
}

impl<'a> From<&'a str> for Value<'a> {
    fn from(text: &'a str) -> Self {
        Self::Text(text)
    }
}

impl<'a> From<&'a String> for Value<'a> {
    fn from(text: &'a String) -> Self {
        Self::Text(text)
    }
}

impl From<i64> for Value<'_> {
    fn from(number: i64) -> Self {
        Self::Number(number)
    }
}

impl From<i32> for Value<'_> {
    fn from(number: i32) -> Self {
        Self::Number(number.into())
    }
}

impl From<u32> for Value<'_> {
    fn from(number: u32) -> Self {
        Self::Number(number.into())
    }
}

impl From<u64> for Value<'_> {
    /// Java has no unsigned numbers; one beyond its range is written as its largest.
    fn from(number: u64) -> Self {
        Self::Number(i64::try_from(number).unwrap_or(i64::MAX))
    }
}

impl From<bool> for Value<'_> {
    fn from(flag: bool) -> Self {
        Self::Flag(flag)
    }
}

impl Value<'_> {
    /// The value's text, in `scratch` when it has to be made.
    fn text<'b>(&'b self, scratch: &'b mut itoa::Buffer) -> &'b str {
        match self {
            Self::Text(text) => text,
            Self::Number(number) => scratch.format(*number),
            Self::Flag(true) => "true",
            Self::Flag(false) => "false",
        }
    }
}

/// The value's text, as on the wire.
impl fmt::Display for Value<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.text(&mut itoa::Buffer::new()))
    }
}

/// A header to send.
#[derive(Clone, Copy, Debug)]
pub struct Outgoing<'a> {
    /// How to write it. A code that the binary form cannot hold is written as JSON: every frame says for
    /// itself how it is written.
    pub encoding: Encoding,
    /// A request code or a response code.
    pub code: i32,
    /// Correlates request and response.
    pub opaque: i32,
    /// [`FLAG_RESPONSE`] and [`FLAG_ONEWAY`](crate::header::FLAG_ONEWAY).
    pub flag: i32,
    /// Text for people.
    pub remark: Option<&'a str>,
    /// The named fields. They are written even if there are none: C++ crashes on a missing map.
    pub fields: &'a [(&'a str, Value<'a>)],
}

impl Outgoing<'_> {
    /// Appends the frame's prefix and header; exactly `body_bytes` bytes of body must follow.
    ///
    /// A header that outgrows its 16 MiB is replaced by one without fields that says so.
    ///
    /// # Panics
    /// When the body has 2 GiB or more.
    pub fn write(&self, body_bytes: usize, into: &mut BytesMut) {
        let start = into.len();
        into.put_bytes(0, PREFIX_BYTES);
        let encoding = match (self.encoding, i16::try_from(self.code)) {
            (Encoding::Binary, Ok(code)) => {
                self.write_binary(code, into);
                Encoding::Binary
            }
            (Encoding::Json, _) | (Encoding::Binary, Err(_)) => {
                self.write_json(into);
                Encoding::Json
            }
        };
        let header_bytes = into.len() - start - PREFIX_BYTES;
        if header_bytes > HEADER_BYTES_MAX {
            into.truncate(start);
            let remark =
                format!("the header would have {header_bytes} bytes, the limit is {HEADER_BYTES_MAX}");
            let is_response = self.flag & FLAG_RESPONSE != 0;
            let code = if is_response { ResponseCode::SYSTEM_ERROR.0 } else { self.code };
            return Outgoing { code, remark: Some(&remark), fields: &[], ..*self }.write(body_bytes, into);
        }
        into[start..start + PREFIX_BYTES].copy_from_slice(&prefix(encoding, header_bytes, body_bytes));
    }

    fn write_json(&self, into: &mut BytesMut) {
        let mut scratch = itoa::Buffer::new();
        into.put_slice(b"{\"code\":");
        into.put_slice(scratch.format(self.code).as_bytes());
        into.put_slice(b",\"extFields\":{");
        for (index, (name, value)) in self.fields.iter().enumerate() {
            if index > 0 {
                into.put_u8(b',');
            }
            write_string(name, into);
            into.put_u8(b':');
            write_string(value.text(&mut scratch), into);
        }
        into.put_slice(b"},\"flag\":");
        into.put_slice(scratch.format(self.flag).as_bytes());
        // A language every peer knows; Java drops others, and nobody acts on a server's.
        into.put_slice(b",\"language\":\"JAVA\",\"opaque\":");
        into.put_slice(scratch.format(self.opaque).as_bytes());
        if let Some(remark) = self.remark {
            into.put_slice(b",\"remark\":");
            write_string(remark, into);
        }
        into.put_slice(b",\"version\":");
        into.put_slice(scratch.format(VERSION).as_bytes());
        into.put_u8(b'}');
    }

    fn write_binary(&self, code: i16, into: &mut BytesMut) {
        into.put_i16(code);
        into.put_u8(Language::Java as u8);
        into.put_i16(i16::try_from(VERSION).expect("RocketMQ's ordinals fit into 16 bits"));
        into.put_i32(self.opaque);
        into.put_i32(self.flag);
        put_long(self.remark.unwrap_or_default(), into);
        let start = into.len();
        into.put_i32(0);
        let mut scratch = itoa::Buffer::new();
        for (name, value) in self.fields {
            into.put_i16(i16::try_from(name.len()).expect("names of fields are short"));
            into.put_slice(name.as_bytes());
            put_long(value.text(&mut scratch), into);
        }
        let fields_bytes = length(into.len() - start - 4);
        into[start..start + 4].copy_from_slice(&fields_bytes.to_be_bytes());
    }
}

fn put_long(text: &str, into: &mut BytesMut) {
    into.put_i32(length(text.len()));
    into.put_slice(text.as_bytes());
}

fn length(bytes: usize) -> i32 {
    i32::try_from(bytes).expect("headers are below 2 GiB")
}

/// What an answer needs to know of its request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReplyTo {
    /// The request's number.
    pub opaque: i32,
    /// The request's encoding, which the answer takes too: C++ and Node.js read only JSON.
    pub encoding: Encoding,
    /// Whether the sender said that it does not wait: then nothing is written at all.
    pub oneway: bool,
}

impl From<(&Header<'_>, &Frame<'_>)> for ReplyTo {
    fn from((header, frame): (&Header<'_>, &Frame<'_>)) -> Self {
        Self { opaque: header.opaque, encoding: frame.encoding, oneway: header.is_oneway() }
    }
}

impl ReplyTo {
    /// Answers that it went well, without a body.
    pub fn success(&self, out: &mut BytesMut, fields: &[(&str, Value<'_>)]) {
        self.write(out, ResponseCode::SUCCESS, None, fields, 0);
    }

    /// Answers that it did not, and why.
    pub fn failure(&self, out: &mut BytesMut, code: ResponseCode, remark: &str) {
        self.write(out, code, Some(remark), &[], 0);
    }

    /// Answers with everything an answer can have.
    pub fn respond(
        &self,
        out: &mut Outbox,
        code: ResponseCode,
        remark: Option<&str>,
        fields: &[(&str, Value<'_>)],
        body: Bytes,
    ) {
        self.write(out.buffer(), code, remark, fields, body.len());
        if !self.oneway && !body.is_empty() {
            out.push(body);
        }
    }

    /// Writes the frame up to its body, of which exactly `body_bytes` bytes must follow; for a one-way request
    /// nothing, and nothing may follow.
    pub fn write(
        &self,
        out: &mut BytesMut,
        code: ResponseCode,
        remark: Option<&str>,
        fields: &[(&str, Value<'_>)],
        body_bytes: usize,
    ) {
        if self.oneway {
            return;
        }
        let header = Outgoing {
            encoding: self.encoding,
            code: code.0,
            opaque: self.opaque,
            flag: FLAG_RESPONSE,
            remark,
            fields,
        };
        header.write(body_bytes, out);
    }
}

#[cfg(test)]
mod tests;

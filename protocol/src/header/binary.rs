//! RocketMQ's binary header.
//!
//! | at | bytes | field       | meaning                                                              |
//! |---:|------:|-------------|----------------------------------------------------------------------|
//! |  0 |     2 | code        |                                                                      |
//! |  2 |     1 | language    |                                                                      |
//! |  3 |     2 | version     |                                                                      |
//! |  5 |     4 | opaque      |                                                                      |
//! |  9 |     4 | flag        |                                                                      |
//! | 13 |   4+r | remark      | length, then text; empty is none                                     |
//! | 17+r | 4+f | fields      | length, then entries: name length `i16`, name, value length `i32`, value |

use std::borrow::Cow;

use super::{Fields, Header, HeaderError, Language};

pub(crate) fn parse(bytes: &[u8]) -> Result<Header<'_>, HeaderError> {
    let mut reader = Reader { rest: bytes, part: "the fixed part" };
    let code = i32::from(i16::from_be_bytes(reader.array()?));
    let [language] = reader.array()?;
    let version = i32::from(i16::from_be_bytes(reader.array()?));
    let opaque = i32::from_be_bytes(reader.array()?);
    let flag = i32::from_be_bytes(reader.array()?);
    reader.part = "the remark";
    let remark = reader.long_text()?;
    reader.part = "the fields";
    let entries = reader.long()?;
    Ok(Header {
        code,
        opaque,
        flag,
        version,
        language: Language::from_number(language.into()),
        remark: (!remark.is_empty()).then_some(remark),
        fields: fields(entries)?,
    })
}

fn fields(entries: &[u8]) -> Result<Fields<'_>, HeaderError> {
    let mut fields = Fields::new();
    let mut reader = Reader { rest: entries, part: "a field" };
    while !reader.rest.is_empty() {
        let name_bytes = i16::from_be_bytes(reader.array()?);
        let name = reader.text(name_bytes.into())?;
        let value = reader.long_text()?;
        // Java reads an empty value as none.
        if value.is_empty() {
            continue;
        }
        if fields.len() == Fields::COUNT_MAX {
            return Err(HeaderError::TooManyFields);
        }
        fields.push(name, value);
    }
    Ok(fields)
}

struct Reader<'a> {
    rest: &'a [u8],
    /// What is being read, for the error.
    part: &'static str,
}

impl<'a> Reader<'a> {
    fn array<const N: usize>(&mut self) -> Result<[u8; N], HeaderError> {
        let (array, rest) = self.rest.split_first_chunk().ok_or(HeaderError::Binary { part: self.part })?;
        self.rest = rest;
        Ok(*array)
    }

    fn bytes(&mut self, length: i32) -> Result<&'a [u8], HeaderError> {
        let length = usize::try_from(length).ok();
        let split = length.and_then(|length| self.rest.split_at_checked(length));
        let (bytes, rest) = split.ok_or(HeaderError::Binary { part: self.part })?;
        self.rest = rest;
        Ok(bytes)
    }

    fn text(&mut self, length: i32) -> Result<Cow<'a, str>, HeaderError> {
        self.bytes(length).map(String::from_utf8_lossy)
    }

    /// Bytes behind their length in four bytes.
    fn long(&mut self) -> Result<&'a [u8], HeaderError> {
        let length = i32::from_be_bytes(self.array()?);
        self.bytes(length)
    }

    fn long_text(&mut self) -> Result<Cow<'a, str>, HeaderError> {
        self.long().map(String::from_utf8_lossy)
    }
}

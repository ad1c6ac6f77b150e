//! The JSON header, read by hand: it is on the path of every message.
//!
//! Tolerant where clients need it: values of fields may be numbers, booleans or nested JSON (kept as text) or
//! null (absent); any key may be missing or unknown; white space may follow.

use std::borrow::Cow;

use super::{Fields, Header, HeaderError, Language};

/// Nesting of values deeper than this is refused; a header's own are two deep.
const DEPTH_MAX: u32 = 64;

pub(crate) fn parse(text: &[u8]) -> Result<Header<'_>, HeaderError> {
    let mut header = Header {
        code: 0,
        opaque: 0,
        flag: 0,
        version: 0,
        language: Language::Other,
        remark: None,
        fields: Fields::new(),
    };
    let mut scanner = Scanner { text, valid: std::str::from_utf8(text).ok(), at: 0 };
    scanner.object(|scanner, key| {
        match &*key {
            "code" => header.code = scanner.number()?,
            "opaque" => header.opaque = scanner.number()?,
            "flag" => header.flag = scanner.number()?,
            "version" => header.version = scanner.number()?,
            "language" => header.language = language(scanner.value()?),
            "remark" => header.remark = scanner.value()?.into_text(),
            "extFields" => scanner.fields(&mut header.fields)?,
            _ => {
                scanner.value()?;
            }
        }
        Ok(())
    })?;
    scanner.skip_white_space();
    if scanner.at < text.len() {
        return Err(scanner.expected("the end"));
    }
    Ok(header)
}

fn language(value: Value<'_>) -> Language {
    match value {
        Value::Text(name) => Language::from_name(&name),
        Value::Bare(number) => Language::from_number(number.parse().unwrap_or(-1)),
        Value::Null | Value::Nested(_) => Language::Other,
    }
}

/// A value, with as little done to it as its kind allows.
enum Value<'a> {
    Null,
    Text(Cow<'a, str>),
    /// A number or a boolean, as it was written.
    Bare(Cow<'a, str>),
    /// An object or an array, as it was written.
    Nested(Cow<'a, str>),
}

impl<'a> Value<'a> {
    fn into_text(self) -> Option<Cow<'a, str>> {
        match self {
            Self::Null => None,
            Self::Text(text) | Self::Bare(text) | Self::Nested(text) => Some(text),
        }
    }
}

struct Scanner<'a> {
    text: &'a [u8],
    /// The text again, if all of it is UTF-8: looked at once, instead of for each string.
    valid: Option<&'a str>,
    at: usize,
}

impl<'a> Scanner<'a> {
    fn expected(&self, expected: &'static str) -> HeaderError {
        HeaderError::Json { expected, at: self.at }
    }

    fn peek(&self) -> Option<u8> {
        self.text.get(self.at).copied()
    }

    /// A part of the text. Bytes that are not UTF-8 become U+FFFD, as in Java.
    fn part(&self, start: usize, end: usize) -> Cow<'a, str> {
        match self.valid.and_then(|text| text.get(start..end)) {
            Some(part) => Cow::Borrowed(part),
            None => String::from_utf8_lossy(&self.text[start..end]),
        }
    }

    fn skip_white_space(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t' | b'\r' | b'\n')) {
            self.at += 1;
        }
    }

    /// Takes `byte` behind white space.
    fn take(&mut self, byte: u8, expected: &'static str) -> Result<(), HeaderError> {
        if !self.take_if(byte) {
            return Err(self.expected(expected));
        }
        Ok(())
    }

    fn take_if(&mut self, byte: u8) -> bool {
        self.skip_white_space();
        let there = self.peek() == Some(byte);
        self.at += usize::from(there);
        there
    }

    /// Walks the members of an object; `member` takes each value.
    fn object(
        &mut self,
        mut member: impl FnMut(&mut Self, Cow<'a, str>) -> Result<(), HeaderError>,
    ) -> Result<(), HeaderError> {
        self.take(b'{', "an object")?;
        if self.take_if(b'}') {
            return Ok(());
        }
        loop {
            self.take(b'"', "a key in quotes")?;
            let key = self.string()?;
            self.take(b':', "a colon")?;
            member(self, key)?;
            if self.take_if(b'}') {
                return Ok(());
            }
            self.take(b',', "a comma or the end of the object")?;
        }
    }

    fn fields(&mut self, fields: &mut Fields<'a>) -> Result<(), HeaderError> {
        self.skip_white_space();
        if self.peek() == Some(b'n') {
            self.value()?;
            return Ok(());
        }
        self.object(|scanner, name| {
            if let Some(value) = scanner.value()?.into_text() {
                if fields.len() == Fields::COUNT_MAX {
                    return Err(HeaderError::TooManyFields);
                }
                fields.push(name, value);
            }
            Ok(())
        })
    }

    /// A number of the header itself; the text of a number does as well, and null is 0.
    fn number(&mut self) -> Result<i32, HeaderError> {
        self.skip_white_space();
        let at = self.at;
        let number = match self.value()? {
            Value::Null => Some(0),
            Value::Text(text) | Value::Bare(text) => text.parse().ok(),
            Value::Nested(_) => None,
        };
        number.ok_or(HeaderError::Json { expected: "a 32-bit number", at })
    }

    fn value(&mut self) -> Result<Value<'a>, HeaderError> {
        self.skip_white_space();
        match self.peek() {
            Some(b'"') => {
                self.at += 1;
                Ok(Value::Text(self.string()?))
            }
            Some(b'{' | b'[') => self.nested().map(Value::Nested),
            Some(b'-' | b'0'..=b'9' | b't' | b'f' | b'n') => self.bare(),
            _ => Err(self.expected("a value")),
        }
    }

    /// A number, `true`, `false` or `null`.
    fn bare(&mut self) -> Result<Value<'a>, HeaderError> {
        let start = self.at;
        while matches!(self.peek(), Some(b'0'..=b'9' | b'a'..=b'z' | b'-' | b'+' | b'.' | b'E')) {
            self.at += 1;
        }
        let written = &self.text[start..self.at];
        let number =
            written.iter().all(|byte| matches!(byte, b'0'..=b'9' | b'-' | b'+' | b'.' | b'e' | b'E'));
        match written {
            b"null" => Ok(Value::Null),
            b"true" | b"false" => Ok(Value::Bare(self.part(start, self.at))),
            _ if number => Ok(Value::Bare(self.part(start, self.at))),
            _ => Err(HeaderError::Json { expected: "a value", at: start }),
        }
    }

    /// An object or array as it is written. Brackets are matched; what lies between is not looked at closely,
    /// because nothing here reads it.
    fn nested(&mut self) -> Result<Cow<'a, str>, HeaderError> {
        let start = self.at;
        // One bit for each open bracket, the innermost lowest: 1 is a brace.
        let (mut open, mut depth) = (0_u64, 0_u32);
        loop {
            let Some(byte) = self.peek() else { return Err(self.expected("the end of a nested value")) };
            self.at += 1;
            match byte {
                b'"' => {
                    self.string_end()?;
                }
                b'{' | b'[' => {
                    if depth == DEPTH_MAX {
                        return Err(self.expected("less nesting"));
                    }
                    open = open << 1 | u64::from(byte == b'{');
                    depth += 1;
                }
                b'}' | b']' => {
                    if (open & 1 == 1) != (byte == b'}') {
                        return Err(self.expected("the bracket that was opened"));
                    }
                    open >>= 1;
                    depth -= 1;
                    if depth == 0 {
                        return Ok(self.part(start, self.at));
                    }
                }
                _ => {}
            }
        }
    }

    /// The string whose opening quote was just taken.
    fn string(&mut self) -> Result<Cow<'a, str>, HeaderError> {
        let start = self.at;
        let escaped = self.string_end()?;
        if !escaped {
            return Ok(self.part(start, self.at - 1));
        }
        let raw = &self.text[start..self.at - 1];
        unescape(raw).map(Cow::Owned).ok_or(HeaderError::Json { expected: "a known escape", at: start })
    }

    /// Moves behind the closing quote and tells whether there were escapes.
    fn string_end(&mut self) -> Result<bool, HeaderError> {
        let mut escaped = false;
        loop {
            let rest = self.text.get(self.at..).unwrap_or_default();
            match rest.iter().position(|byte| matches!(byte, b'"' | b'\\')) {
                Some(end) if rest[end] == b'"' => {
                    self.at += end + 1;
                    return Ok(escaped);
                }
                Some(escape) => {
                    escaped = true;
                    self.at += escape + 2;
                }
                None => {
                    self.at = self.text.len();
                    return Err(self.expected("a closing quote"));
                }
            }
        }
    }
}

/// Resolves a string's escapes; `None` when one is unknown. A surrogate without its other half becomes U+FFFD.
pub(crate) fn unescape(raw: &[u8]) -> Option<String> {
    // Unescaping only shortens, so this is the only allocation (malformed UTF-8 aside).
    let mut bytes = Vec::with_capacity(raw.len());
    let mut rest = raw;
    while let Some(escape) = memchr::memchr(b'\\', rest) {
        bytes.extend_from_slice(&rest[..escape]);
        let (&kind, behind) = rest[escape + 1..].split_first()?;
        rest = behind;
        let plain = match kind {
            b'"' | b'\\' | b'/' | b'\'' => kind,
            b'b' => 0x08,
            b'f' => 0x0C,
            b'n' => b'\n',
            b'r' => b'\r',
            b't' => b'\t',
            b'u' => {
                let unit = hexadecimal(rest)?;
                rest = &rest[4..];
                if unit < 0x80 {
                    bytes.push(u8::try_from(unit).unwrap_or_default());
                } else {
                    let character = character(unit, &mut rest);
                    bytes.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes());
                }
                continue;
            }
            _ => return None,
        };
        bytes.push(plain);
    }
    bytes.extend_from_slice(rest);
    Some(match String::from_utf8(bytes) {
        Ok(text) => text,
        Err(malformed) => String::from_utf8_lossy(malformed.as_bytes()).into_owned(),
    })
}

/// The character of a UTF-16 code unit and, if it needs one, the low surrogate escaped behind it.
fn character(unit: u16, rest: &mut &[u8]) -> char {
    if (0xD800..0xDC00).contains(&unit)
        && let Some(behind) = rest.strip_prefix(b"\\u")
        && let Some(low) = hexadecimal(behind)
        && let Some(Ok(character)) = char::decode_utf16([unit, low]).next()
    {
        *rest = &behind[4..];
        return character;
    }
    char::from_u32(u32::from(unit)).unwrap_or(char::REPLACEMENT_CHARACTER)
}

fn hexadecimal(text: &[u8]) -> Option<u16> {
    let digits = text.first_chunk::<4>()?;
    digits.iter().try_fold(0_u16, |unit, digit| {
        let digit = char::from(*digit).to_digit(16)?;
        Some(unit << 4 | u16::try_from(digit).ok()?)
    })
}

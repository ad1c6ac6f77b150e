//! Headers: what a frame asks or answers, and its named fields.
//!
//! Both encodings give the same [`Header`]. Text is borrowed from the frame wherever it holds no escapes, so a
//! header of a plain request is parsed without allocating.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use smallvec::SmallVec;

use crate::code::{RequestCode, ResponseCode};

pub(crate) mod binary;
pub(crate) mod json;

/// Bit of [`Header::flag`] that marks a response.
pub const FLAG_RESPONSE: i32 = 1;

/// Bit of [`Header::flag`] that marks a request whose sender does not wait for an answer.
pub const FLAG_ONEWAY: i32 = 2;

/// The version ordinal this implementation announces, V5_3_3. Java clients take the one in the heartbeat's
/// response as the broker's.
pub const VERSION: i32 = 479;

/// A parsed header.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header<'a> {
    /// What is asked (a [`RequestCode`]) or how it went (a [`ResponseCode`]).
    pub code: i32,
    /// Correlates a response with its request; each side numbers its own requests.
    pub opaque: i32,
    /// [`FLAG_RESPONSE`] and [`FLAG_ONEWAY`].
    pub flag: i32,
    /// The sender's version ordinal.
    pub version: i32,
    /// The sender's language.
    pub language: Language,
    /// Text for people, mostly with errors.
    pub remark: Option<Cow<'a, str>>,
    /// The named fields (`extFields`).
    pub fields: Fields<'a>,
}

impl Header<'_> {
    /// Whether this answers a request of ours.
    pub fn is_response(&self) -> bool {
        self.flag & FLAG_RESPONSE != 0
    }

    /// Whether the sender does not wait for an answer. Some clients forget to say so.
    pub fn is_oneway(&self) -> bool {
        self.flag & FLAG_ONEWAY != 0
    }

    /// The code, read as a request's.
    pub fn request_code(&self) -> RequestCode {
        RequestCode(self.code)
    }

    /// The code, read as a response's.
    pub fn response_code(&self) -> ResponseCode {
        ResponseCode(self.code)
    }
}

/// Why a header could not be parsed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum HeaderError {
    /// The text is not the JSON of a header.
    #[error("header is no JSON object of a header: expected {expected} at byte {at}")]
    Json {
        /// What should have been there.
        expected: &'static str,
        /// Where, counted from the header's first byte.
        at: usize,
    },
    /// A length in a binary header points behind the header, or is negative.
    #[error("binary header ends inside {part}")]
    Binary {
        /// Which part does not fit.
        part: &'static str,
    },
    /// More fields than any request has.
    #[error("header has more than {} fields", Fields::COUNT_MAX)]
    TooManyFields,
}

/// The named fields of a header, in the order they came. Of equal names the last wins.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Fields<'a>(SmallVec<[(Cow<'a, str>, Cow<'a, str>); 16]>);

impl<'a> Fields<'a> {
    /// More fields than this are refused: look-ups are linear, and no request has a tenth of it.
    pub const COUNT_MAX: usize = 256;

    /// No fields.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a field behind the others.
    pub fn push(&mut self, name: impl Into<Cow<'a, str>>, value: impl Into<Cow<'a, str>>) {
        self.0.push((name.into(), value.into()));
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// All fields, in the order they came.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = (&str, &str)> {
        self.0.iter().map(|(name, value)| (&**name, &**value))
    }

    /// The value of a field.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.iter().rev().find(|(known, _)| *known == name).map(|(_, value)| value)
    }

    /// The value of a field that has to be there.
    ///
    /// # Errors
    /// When it is not.
    pub fn required(&self, name: &'static str) -> Result<&str, FieldError> {
        self.get(name).ok_or(FieldError::Missing { field: name })
    }

    /// The number in a field that has to be there.
    ///
    /// # Errors
    /// When it is missing, no decimal number, or out of range.
    pub fn number<N: FromStr>(&self, name: &'static str) -> Result<N, FieldError> {
        number(name, self.required(name)?)
    }

    /// The number in a field, or `default` when there is no such field. Empty text counts as no field: the C++
    /// client sends it for what it does not know.
    ///
    /// # Errors
    /// When it is no decimal number or out of range.
    pub fn number_or<N: FromStr>(&self, name: &'static str, default: N) -> Result<N, FieldError> {
        Ok(self.number_if_given(name)?.unwrap_or(default))
    }

    /// The number in a field, if there is such a field.
    ///
    /// # Errors
    /// As for [`Fields::number_or`].
    pub fn number_if_given<N: FromStr>(&self, name: &'static str) -> Result<Option<N>, FieldError> {
        self.get(name).filter(|text| !text.is_empty()).map(|text| number(name, text)).transpose()
    }

    /// Whether a field says `true`, in any letter case.
    pub fn flag(&self, name: &str) -> bool {
        self.get(name).is_some_and(|value| value.eq_ignore_ascii_case("true"))
    }

    /// Whether a field says `true`, or `default` when there is no such field.
    pub fn flag_or(&self, name: &str, default: bool) -> bool {
        self.get(name).map_or(default, |value| value.eq_ignore_ascii_case("true"))
    }
}

impl<'a> FromIterator<(Cow<'a, str>, Cow<'a, str>)> for Fields<'a> {
    fn from_iter<I: IntoIterator<Item = (Cow<'a, str>, Cow<'a, str>)>>(fields: I) -> Self {
        Self(fields.into_iter().collect())
    }
}

/// Reads a field's text as a number.
pub(crate) fn number<N: FromStr>(field: &'static str, text: &str) -> Result<N, FieldError> {
    text.parse().map_err(|_| FieldError::NotANumber { field, found: excerpt(text) })
}

/// Why a request cannot be understood. The text serves as the remark of the answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FieldError {
    /// A field that has to be there is not.
    #[error("field {field} is missing")]
    Missing {
        /// Its name on the wire.
        field: &'static str,
    },
    /// A field's text is no decimal number, or out of its range.
    #[error("field {field} is not a number within range: {found:?}")]
    NotANumber {
        /// Its name on the wire.
        field: &'static str,
        /// The beginning of what it holds.
        found: String,
    },
    /// A field has a value that it must not have.
    #[error("field {field} is not {expected}: {found:?}")]
    Invalid {
        /// Its name on the wire.
        field: &'static str,
        /// What it may hold.
        expected: &'static str,
        /// The beginning of what it holds.
        found: String,
    },
    /// The body is not what the request asks for.
    #[error("the body is not a valid {what}: {reason}")]
    Body {
        /// What should be there.
        what: &'static str,
        /// What is wrong with it.
        reason: String,
    },
}

impl FieldError {
    /// A field with a value that it must not have.
    pub fn invalid(field: &'static str, expected: &'static str, found: &str) -> Self {
        Self::Invalid { field, expected, found: excerpt(found) }
    }

    /// A body that is not what the request asks for.
    pub fn body(what: &'static str, reason: impl fmt::Display) -> Self {
        Self::Body { what, reason: excerpt(&reason.to_string()) }
    }
}

/// Enough of a text to recognise it: a remark that repeats megabytes helps nobody.
fn excerpt(text: &str) -> String {
    const CHARS_MAX: usize = 120;
    match text.char_indices().nth(CHARS_MAX) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

/// The language of a peer's client or server, for display.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Language {
    /// Java, and the Node.js client, which says so too.
    Java = 0,
    /// C++, and what is built on it.
    Cpp = 1,
    /// .NET.
    DotNet = 2,
    /// Python.
    Python = 3,
    /// Delphi.
    Delphi = 4,
    /// Erlang.
    Erlang = 5,
    /// Ruby.
    Ruby = 6,
    /// Something else, and what is not known here.
    #[default]
    Other = 7,
    /// An HTTP gateway.
    Http = 8,
    /// Go.
    Go = 9,
    /// PHP.
    Php = 10,
    /// OpenMessaging.
    Oms = 11,
    /// Rust.
    Rust = 12,
    /// Node.js.
    NodeJs = 13,
}

const LANGUAGES: [(Language, &str); 14] = [
    (Language::Java, "JAVA"),
    (Language::Cpp, "CPP"),
    (Language::DotNet, "DOTNET"),
    (Language::Python, "PYTHON"),
    (Language::Delphi, "DELPHI"),
    (Language::Erlang, "ERLANG"),
    (Language::Ruby, "RUBY"),
    (Language::Other, "OTHER"),
    (Language::Http, "HTTP"),
    (Language::Go, "GO"),
    (Language::Php, "PHP"),
    (Language::Oms, "OMS"),
    (Language::Rust, "RUST"),
    (Language::NodeJs, "NODE_JS"),
];

impl Language {
    /// The name on the wire.
    pub fn name(self) -> &'static str {
        LANGUAGES[usize::from(self as u8)].1
    }

    /// The language of a name on the wire.
    pub fn from_name(name: &str) -> Self {
        let known = LANGUAGES.iter().find(|(_, known)| known.eq_ignore_ascii_case(name));
        known.map_or(Self::Other, |(language, _)| *language)
    }

    /// The language of a number on the wire.
    pub fn from_number(number: i64) -> Self {
        let known = usize::try_from(number).ok().and_then(|index| LANGUAGES.get(index));
        known.map_or(Self::Other, |(language, _)| *language)
    }
}

impl Serialize for Language {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.name())
    }
}

impl<'de> Deserialize<'de> for Language {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Option::<Cow<'_, str>>::deserialize(deserializer)
            .map(|name| name.map_or(Self::Other, |name| Self::from_name(&name)))
    }
}

impl fmt::Display for Language {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests;

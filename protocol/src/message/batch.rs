//! The body of a batch: messages one behind the other, without what the request says for all of them.
//!
//! | bytes | field      | meaning                                   |
//! |------:|------------|-------------------------------------------|
//! |     4 | totalSize  | of this message, this field included      |
//! |     4 | magic      | not looked at; written as 0               |
//! |     4 | bodyCRC    | not looked at; written as 0               |
//! |     4 | flag       | the application's                         |
//! |   4+n | body       | length, bytes                             |
//! |   2+p | properties | length, bytes                             |

use bytes::BufMut;

use super::record::{MessageError, MessageRefused, PROPERTIES_BYTES_MAX, Reader};

const FIXED_BYTES: usize = 22;

/// One message of a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InnerMessage<'a> {
    /// The application's flag.
    pub flag: i32,
    /// The body.
    pub body: &'a [u8],
    /// The properties' bytes.
    pub properties: &'a [u8],
}

/// The messages of a batch, in order. Ends after the first error.
pub fn inner_messages(body: &[u8]) -> InnerMessages<'_> {
    InnerMessages { rest: body }
}

/// See [`inner_messages`].
#[derive(Clone, Debug)]
pub struct InnerMessages<'a> {
    rest: &'a [u8],
}

impl<'a> Iterator for InnerMessages<'a> {
    type Item = Result<InnerMessage<'a>, MessageError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        let parsed = parse(self.rest);
        self.rest = parsed.as_ref().map_or(&[], |(_, rest)| rest);
        Some(parsed.map(|(message, _)| message))
    }
}

fn parse(bytes: &[u8]) -> Result<(InnerMessage<'_>, &[u8]), MessageError> {
    let mut reader = Reader { rest: bytes };
    let total = reader.i32("totalSize")?;
    let _magic = reader.i32("magic")?;
    let _body_crc = reader.i32("bodyCRC")?;
    let flag = reader.i32("flag")?;
    let body_bytes = reader.i32("body")?;
    let body = reader.bytes("body", body_bytes)?;
    let properties_bytes = reader.i16("properties")?;
    let properties = reader.bytes("properties", properties_bytes.into())?;
    let fields_bytes = bytes.len() - reader.rest.len();
    let total_bytes = usize::try_from(total)
        .map_err(|_| MessageError::OutOfRange { field: "totalSize", found: total.into() })?;
    if total_bytes != fields_bytes {
        return Err(MessageError::Length { total_bytes, fields_bytes });
    }
    Ok((InnerMessage { flag, body, properties }, reader.rest))
}

impl InnerMessage<'_> {
    /// Appends the message to a batch.
    ///
    /// # Errors
    /// When it breaks a limit; nothing is appended then.
    pub fn write(&self, into: &mut impl BufMut) -> Result<(), MessageRefused> {
        let (body_bytes, properties_bytes) = (self.body.len(), self.properties.len());
        let Ok(properties_length) = i16::try_from(properties_bytes) else {
            return Err(MessageRefused::PropertiesTooLong { properties_bytes });
        };
        let body_bytes_max = i32::MAX as usize - FIXED_BYTES - PROPERTIES_BYTES_MAX;
        let total = i32::try_from(FIXED_BYTES + body_bytes + properties_bytes);
        let (Ok(total), Ok(body_length)) = (total, i32::try_from(body_bytes)) else {
            return Err(MessageRefused::BodyTooLarge { body_bytes, body_bytes_max });
        };
        into.put_i32(total);
        into.put_i32(0);
        into.put_i32(0);
        into.put_i32(self.flag);
        into.put_i32(body_length);
        into.put_slice(self.body);
        into.put_i16(properties_length);
        into.put_slice(self.properties);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_batch_has_rocketmq_s_bytes() {
        let messages = [
            InnerMessage { flag: 0, body: b"hello", properties: b"TAGS\x01A\x02" },
            InnerMessage { flag: 0, body: b"wo", properties: b"" },
        ];
        let mut body = Vec::new();
        messages.iter().for_each(|message| message.write(&mut body).unwrap());
        let expected = concat!(
            "0000002200000000000000000000000000000005",
            "68656C6C6F000754414753014102",
            "0000001800000000000000000000000000000002776F0000",
        );
        assert_eq!(body.iter().map(|byte| format!("{byte:02X}")).collect::<String>(), expected);
        let read: Result<Vec<_>, _> = inner_messages(&body).collect();
        assert_eq!(read.unwrap(), messages);
    }

    #[test]
    fn wrong_lengths_are_named() {
        let mut body = Vec::new();
        InnerMessage { flag: 1, body: b"x", properties: b"" }.write(&mut body).unwrap();
        for end in 1..body.len() {
            let found: Vec<_> = inner_messages(&body[..end]).collect();
            assert!(matches!(found[..], [Err(MessageError::Truncated { .. })]), "{found:?}");
        }
        body[3] += 1;
        let found: Vec<_> = inner_messages(&body).collect();
        assert_eq!(found, [Err(MessageError::Length { total_bytes: 24, fields_bytes: 23 })]);
    }

    proptest! {
        #[test]
        fn no_bytes_panic(bytes: Vec<u8>) {
            assert!(inner_messages(&bytes).count() <= bytes.len());
        }
    }
}

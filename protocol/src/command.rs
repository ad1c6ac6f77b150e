//! Commands: what a request's code, fields and body mean, as types that both sides use.
//!
//! A server calls `decode` and gets a struct or an error that names the field. A client fills the struct and
//! sends `fields()`, with `body()` or what the request's docs say behind it. Fields that are not known are
//! ignored on reading.
//!
//! | to change…                                       | open            |
//! |--------------------------------------------------|-----------------|
//! | sending: codes 10, 310, 320, 324, 325             | `send`          |
//! | pulling: 11, 361                                  | `pull`          |
//! | popping: 200050 to 200055, 200151                 | `pop`           |
//! | the broker shares queues out: 400, 401, 402       | `assignment`    |
//! | offsets: 14, 15, 29, 30, 31, 32                   | `offsets`       |
//! | all offsets of a broker: 43, 45                   | `offset_tables` |
//! | resetting and cloning offsets: 220 to 223, 314    | `reset`         |
//! | sending back what could not be consumed: 36       | `send_back`     |
//! | recalling what waits for its time: 370            | `recall`        |
//! | replies between applications: 326                 | `reply`         |
//! | transactions: 37, 39, 323, and 60001, our own     | `transactions`  |
//! | dead letters: 60010 to 60012, our own             | `dead_letters`  |
//! | who moved offsets: 60013, our own                 | `audit`         |
//! | finding messages: 12, 33, 321                     | `query`         |
//! | heartbeats and subscriptions: 34, 46              | `heartbeat`     |
//! | groups' members: 35, 38, 40                       | `membership`    |
//! | who is connected: 203, 204, 328                   | `connections`   |
//! | who consumes what: 300, 303, 343, 345             | `subscribers`   |
//! | figures: 202, 208, 315, 317                       | `stats`         |
//! | what tools ask of clients: 307, 309               | `diagnosis`     |
//! | queue locks: 41, 42                               | `locks`         |
//! | topics: 17, 18, 21, 202, 215, 300, 351            | `topics`        |
//! | subscription groups: 200, 201, 207, 225, 343, 352 | `groups`        |
//! | a configuration's text: 25, 26, 318, 319          | `configuration` |
//! | what brokers tell nameservers: 103, 104, 322, 904 | `register`      |
//! | what nameservers tell: 105, 106, 206 and the rest | `route`         |
//! | key–value configuration: 100, 101, 102, 219       | `kv`            |
//! | how far groups are behind: 60020, 60021, our own  | `lag`           |
//!
//! Codes 305, 306, 316 and 329 have neither fields nor a body; 305 is answered with a
//! [`TopicList`](route::TopicList).

use smallvec::SmallVec;

use crate::header::{FieldError, Fields, number};
use crate::outgoing::Value;

/// Declares the fields of a header: a struct, how to read it and how to write it.
///
/// The type of a field says whether it may be missing: an `Option` may, a `bool` is false then, the rest may
/// not.
macro_rules! header_fields {
    (
        $(#[$docs:meta])*
        $kind:ident $(<$life:lifetime>)? {
            $($(#[$field_docs:meta])* $field:ident: $type:ty = $name:literal,)*
        }
    ) => {
        $(#[$docs])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub struct $kind $(<$life>)? {
            $($(#[$field_docs])* pub $field: $type,)*
        }

        impl $(<$life>)? $kind $(<$life>)? {
            /// Reads the header's fields.
            ///
            /// # Errors
            /// When one is missing or is not what it has to be.
            pub fn decode(
                header: & $($life)? $crate::header::Header<'_>,
            ) -> Result<Self, $crate::header::FieldError> {
                Ok(Self {
                    $($field: $crate::command::FieldValue::read(&header.fields, $name)?,)*
                })
            }

            /// The fields to send.
            pub fn fields(&self) -> $crate::command::FieldList<'_> {
                let mut fields = $crate::command::FieldList::new();
                $(fields.extend($crate::command::FieldValue::value(&self.$field).map(|value| ($name, value)));)*
                fields
            }
        }
    };
}

/// Declares a Java enum: its constants in their order.
macro_rules! constants {
    ($(#[$docs:meta])* $kind:ident { $($(#[$variant_docs:meta])* $variant:ident = $name:literal,)* }) => {
        $(#[$docs])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
        pub enum $kind {
            $($(#[$variant_docs])* $variant,)*
        }

        impl $kind {
            const NAMES: &'static [(&'static str, Self)] = &[$(($name, Self::$variant),)*];

            /// The name on the wire.
            pub fn name(self) -> &'static str {
                match self {
                    $(Self::$variant => $name,)*
                }
            }
        }

        impl serde::Serialize for $kind {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(self.name())
            }
        }

        impl<'de> serde::Deserialize<'de> for $kind {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                $crate::json::lenient::constant(deserializer, Self::NAMES)
            }
        }
    };
}

pub mod assignment;
pub mod audit;
pub mod configuration;
pub mod connections;
pub mod dead_letters;
pub mod diagnosis;
pub mod groups;
pub mod heartbeat;
pub mod kv;
pub mod lag;
pub mod locks;
pub mod membership;
pub mod offset_tables;
pub mod offsets;
pub mod pop;
pub mod pull;
pub mod query;
pub mod recall;
pub mod register;
pub mod reply;
pub mod reset;
pub mod route;
pub mod send;
pub mod send_back;
pub mod stats;
pub mod subscribers;
pub mod topics;
pub mod transactions;

/// Fields to send, by their names on the wire.
pub type FieldList<'a> = SmallVec<[(&'static str, Value<'a>); 16]>;

/// A type that a header's field can have.
pub(crate) trait FieldValue<'a>: Sized {
    fn read(fields: &'a Fields<'_>, name: &'static str) -> Result<Self, FieldError>;

    fn value(&self) -> Option<Value<'_>>;
}

impl<'a> FieldValue<'a> for &'a str {
    fn read(fields: &'a Fields<'_>, name: &'static str) -> Result<Self, FieldError> {
        fields.required(name)
    }

    fn value(&self) -> Option<Value<'_>> {
        Some(Value::Text(self))
    }
}

impl<'a> FieldValue<'a> for Option<&'a str> {
    fn read(fields: &'a Fields<'_>, name: &'static str) -> Result<Self, FieldError> {
        Ok(fields.get(name))
    }

    fn value(&self) -> Option<Value<'_>> {
        self.map(Value::Text)
    }
}

impl FieldValue<'_> for bool {
    fn read(fields: &Fields<'_>, name: &'static str) -> Result<Self, FieldError> {
        Ok(fields.flag(name))
    }

    fn value(&self) -> Option<Value<'_>> {
        Some(Value::Flag(*self))
    }
}

impl FieldValue<'_> for Option<bool> {
    fn read(fields: &Fields<'_>, name: &'static str) -> Result<Self, FieldError> {
        Ok(fields.get(name).map(|_| fields.flag(name)))
    }

    fn value(&self) -> Option<Value<'_>> {
        self.map(Value::Flag)
    }
}

macro_rules! number_fields {
    ($($kind:ty),*) => {
        $(
            impl FieldValue<'_> for $kind {
                fn read(fields: &Fields<'_>, name: &'static str) -> Result<Self, FieldError> {
                    number(name, fields.required(name)?)
                }

                fn value(&self) -> Option<Value<'_>> {
                    Some(Value::from(*self))
                }
            }

            impl FieldValue<'_> for Option<$kind> {
                fn read(fields: &Fields<'_>, name: &'static str) -> Result<Self, FieldError> {
                    fields.number_if_given(name)
                }

                fn value(&self) -> Option<Value<'_>> {
                    self.map(Value::from)
                }
            }
        )*
    };
}

number_fields!(i32, i64, u64);

#[cfg(test)]
mod tests;

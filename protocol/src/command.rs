//! Commands: what a request's code, fields and body mean, as types that both sides use.
//!
//! A server calls `decode` and gets a struct or an error that names the field. A client fills the struct and
//! sends `fields()`, with `body()` or what the request's docs say behind it. Fields that are not known are
//! ignored on reading.
//!
//! | to change…                                       | open         |
//! |--------------------------------------------------|--------------|
//! | sending: codes 10, 310, 320, 324, 325             | `send`       |
//! | pulling: 11, 361                                  | `pull`       |
//! | offsets: 14, 15, 29, 30, 31, 32                   | `offsets`    |
//! | heartbeats and subscriptions: 34, 46              | `heartbeat`  |
//! | groups' members: 35, 38, 40                       | `membership` |
//! | queue locks: 41, 42                               | `locks`      |
//! | topics: 17, 215, 351                              | `topics`     |
//! | subscription groups: 200, 207, 352                | `groups`     |
//! | what brokers tell nameservers: 103, 104, 322, 904 | `register`   |
//! | what nameservers tell: 105, 106, 206 and the rest | `route`      |
//! | key–value configuration: 100, 101, 102, 219       | `kv`         |

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

pub mod groups;
pub mod heartbeat;
pub mod kv;
pub mod locks;
pub mod membership;
pub mod offsets;
pub mod pull;
pub mod register;
pub mod route;
pub mod send;
pub mod topics;

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

//! Readers for values that clients write in another type than Java does. Null is the default everywhere, as
//! Java leaves a field alone then.

use std::collections::BTreeMap;
use std::fmt;
use std::marker::PhantomData;
use std::str::FromStr;

use serde::de::{Deserialize, DeserializeOwned, Deserializer, Error, MapAccess, Unexpected, Visitor};

/// A number, or text that holds one.
pub(crate) fn integer<'de, D, N>(deserializer: D) -> Result<N, D::Error>
where
    D: Deserializer<'de>,
    N: Default + TryFrom<i64> + FromStr,
{
    struct Integer<N>(PhantomData<N>);

    impl<N: Default + TryFrom<i64> + FromStr> Visitor<'_> for Integer<N> {
        type Value = N;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a whole number")
        }

        fn visit_i64<E: Error>(self, number: i64) -> Result<N, E> {
            N::try_from(number).map_err(|_| E::invalid_value(Unexpected::Signed(number), &self))
        }

        fn visit_u64<E: Error>(self, number: u64) -> Result<N, E> {
            let signed =
                i64::try_from(number).map_err(|_| E::invalid_value(Unexpected::Unsigned(number), &self))?;
            self.visit_i64(signed)
        }

        fn visit_str<E: Error>(self, text: &str) -> Result<N, E> {
            match text.trim() {
                "" => Ok(N::default()),
                text => text.parse().map_err(|_| E::invalid_value(Unexpected::Str(text), &self)),
            }
        }

        fn visit_unit<E: Error>(self) -> Result<N, E> {
            Ok(N::default())
        }
    }

    deserializer.deserialize_any(Integer(PhantomData))
}

/// A boolean, or text or a number that means one.
pub(crate) fn boolean<'de, D: Deserializer<'de>>(deserializer: D) -> Result<bool, D::Error> {
    struct Boolean;

    impl Visitor<'_> for Boolean {
        type Value = bool;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("true or false")
        }

        fn visit_bool<E: Error>(self, value: bool) -> Result<bool, E> {
            Ok(value)
        }

        fn visit_i64<E: Error>(self, number: i64) -> Result<bool, E> {
            Ok(number != 0)
        }

        fn visit_u64<E: Error>(self, number: u64) -> Result<bool, E> {
            Ok(number != 0)
        }

        fn visit_str<E: Error>(self, text: &str) -> Result<bool, E> {
            Ok(text.eq_ignore_ascii_case("true") || text == "1")
        }

        fn visit_unit<E: Error>(self) -> Result<bool, E> {
            Ok(false)
        }
    }

    deserializer.deserialize_any(Boolean)
}

/// Anything, with null as its default.
pub(crate) fn or_default<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: Default + Deserialize<'de>,
{
    Option::<T>::deserialize(deserializer).map(Option::unwrap_or_default)
}

/// A map whose keys are objects, which [`standard`](super::standard()) has made strings that hold them.
pub(crate) fn object_keys<'de, D, K, V>(deserializer: D) -> Result<BTreeMap<K, V>, D::Error>
where
    D: Deserializer<'de>,
    K: DeserializeOwned + Ord,
    V: Deserialize<'de>,
{
    struct ObjectKeys<K, V>(PhantomData<(K, V)>);

    impl<'de, K: DeserializeOwned + Ord, V: Deserialize<'de>> Visitor<'de> for ObjectKeys<K, V> {
        type Value = BTreeMap<K, V>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a map whose keys are objects")
        }

        fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
            let mut found = BTreeMap::new();
            while let Some(key) = map.next_key::<String>()? {
                let key = super::read(key.as_bytes()).map_err(A::Error::custom)?;
                found.insert(key, map.next_value()?);
            }
            Ok(found)
        }

        fn visit_unit<E: Error>(self) -> Result<Self::Value, E> {
            Ok(BTreeMap::new())
        }
    }

    deserializer.deserialize_any(ObjectKeys(PhantomData))
}

/// A constant of a Java enum: its name in any letter case, its ordinal, or the ordinal as text. What is unknown
/// is the default, as Java gives null for it.
pub(crate) fn constant<'de, D, T>(deserializer: D, names: &'static [(&'static str, T)]) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: Default + Copy,
{
    struct Constant<T: 'static>(&'static [(&'static str, T)]);

    impl<T: Default + Copy> Visitor<'_> for Constant<T> {
        type Value = T;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("the name of a constant or its ordinal")
        }

        fn visit_u64<E: Error>(self, ordinal: u64) -> Result<T, E> {
            let known = usize::try_from(ordinal).ok().and_then(|ordinal| self.0.get(ordinal));
            Ok(known.map(|(_, constant)| *constant).unwrap_or_default())
        }

        fn visit_i64<E: Error>(self, _negative: i64) -> Result<T, E> {
            Ok(T::default())
        }

        fn visit_str<E: Error>(self, text: &str) -> Result<T, E> {
            if let Ok(ordinal) = text.parse() {
                return self.visit_u64(ordinal);
            }
            let known = self.0.iter().find(|(name, _)| name.eq_ignore_ascii_case(text));
            Ok(known.map(|(_, constant)| *constant).unwrap_or_default())
        }

        fn visit_unit<E: Error>(self) -> Result<T, E> {
            Ok(T::default())
        }
    }

    deserializer.deserialize_any(Constant(names))
}

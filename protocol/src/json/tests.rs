use std::collections::BTreeMap;

use proptest::prelude::*;
use serde_json::Value;

use super::*;

fn check(text: &str, expected: Option<&str>) {
    let found = standard(text.as_bytes());
    assert_eq!(found.as_deref(), expected.map(str::as_bytes), "{text}");
}

#[test]
fn bare_and_object_keys_become_strings() {
    check(r#"{"a":[1,{"b":"{,"}]}"#, Some(r#"{"a":[1,{"b":"{,"}]}"#));
    check(r#"{0:"a:1",1:"b:2"}"#, Some(r#"{"0":"a:1","1":"b:2"}"#));
    check(r#"{ -1 : {x_$:2} }"#, Some(r#"{ "-1" : {"x_$":2} }"#));
    check(
        r#"{{"t":"T}","q":1}:13,{"t":"U"}:12}"#,
        Some(r#"{"{\"t\":\"T}\",\"q\":1}":13,"{\"t\":\"U\"}":12}"#),
    );
    for broken in ["{", "}", "[}", r#"{"a"#, r#"{"a\"#, "{{", "{0", r#"{{"a"}"#] {
        check(broken, None);
    }
}

#[test]
fn bodies_of_java_are_read() {
    let addresses: BTreeMap<i64, String> = read(br#"{0:"127.0.0.1:10911"}"#).unwrap();
    assert_eq!(addresses[&0], "127.0.0.1:10911");
    let addresses: BTreeMap<i64, String> = read(b"{\"0\":\"127.0.0.1:10911\"}\n").unwrap();
    assert_eq!(addresses[&0], "127.0.0.1:10911");
    assert!(read::<Value>(b"{0").is_err());
}

#[test]
fn route_data_are_ascii() {
    let text = to_ascii_vec(&BTreeMap::from([("ä", "你😀\n")]));
    assert_eq!(std::str::from_utf8(&text), Ok(r#"{"\u00E4":"\u4F60\uD83D\uDE00\n"}"#));
}

#[test]
fn maps_with_object_keys_are_java_s() {
    let entries = [(BTreeMap::from([("topic", "T")]), 13), (BTreeMap::from([("topic", "U")]), 12)];
    let mut text = Vec::new();
    write_object_keys(entries.iter().map(|(key, value)| (key, value)), &mut text);
    assert_eq!(std::str::from_utf8(&text), Ok(r#"{{"topic":"T"}:13,{"topic":"U"}:12}"#));
    assert!(standard(&text).is_some());
}

proptest! {
    #[test]
    fn no_bytes_panic(bytes: Vec<u8>) {
        let _read = read::<Value>(&bytes);
    }

    #[test]
    fn no_text_like_json_panics(text in r#"[{}\[\]":,\\a-c0-1 ]{0,60}"#) {
        let _read = read::<Value>(text.as_bytes());
    }

    #[test]
    fn strings_read_back(text: String) {
        let mut written = BytesMut::new();
        write_string(&text, &mut written);
        prop_assert_eq!(serde_json::from_slice::<String>(&written).unwrap(), text.clone());
        let ascii = to_ascii_vec(&text);
        prop_assert!(ascii.is_ascii());
        prop_assert_eq!(serde_json::from_slice::<String>(&ascii).unwrap(), text);
    }
}

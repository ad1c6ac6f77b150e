use proptest::prelude::*;

use super::*;

fn parse(text: &str) -> Result<Header<'_>, HeaderError> {
    json::parse(text.as_bytes())
}

fn fields(text: &str) -> Vec<(String, String)> {
    let header = parse(text).unwrap();
    header.fields.iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
}

#[test]
fn a_plain_header_borrows_all_its_text() {
    let text =
        r#"{"code":310,"extFields":{"a":"PG","b":"T"},"flag":0,"language":"CPP","opaque":2,"version":333}"#;
    let header = parse(text).unwrap();
    assert_eq!(header.language, Language::Cpp);
    for (name, value) in &header.fields.0 {
        assert!(matches!((name, value), (Cow::Borrowed(_), Cow::Borrowed(_))));
    }
}

#[test]
fn values_of_fields_may_be_anything() {
    let text = r#"{"extFields":{"n":3,"m":-1.5e3,"t":true,"z":null,"o":{"a":["}",{}]},"e":""},"code":10}"#;
    let expected = [("n", "3"), ("m", "-1.5e3"), ("t", "true"), ("o", r#"{"a":["}",{}]}"#), ("e", "")];
    assert_eq!(fields(text), expected.map(|(name, value)| (name.to_owned(), value.to_owned())));
}

#[test]
fn missing_and_unknown_keys_are_fine() {
    let empty = parse("{}").unwrap();
    assert_eq!((empty.code, empty.opaque, empty.flag, empty.language), (0, 0, 0, Language::Other));
    let text = "{ \"code\" : \"34\" , \"language\":9, \"extFields\":null, \"new\":[{}], \"remark\":null } \n";
    let header = parse(text).unwrap();
    assert_eq!((header.code, header.language, header.remark), (34, Language::Go, None));
    assert_eq!(parse(r#"{"language":"COBOL"}"#).unwrap().language, Language::Other);
}

#[test]
fn escapes_are_resolved() {
    let text = r#"{"extFields":{"i":"k\u0001v\u0002","j":"\"\\\/\b\f\n\r\t\u4f60\ud83d\ude00\ud83d!"}}"#;
    let header = parse(text).unwrap();
    assert_eq!(header.fields.get("i"), Some("k\u{1}v\u{2}"));
    assert_eq!(header.fields.get("j"), Some("\"\\/\u{8}\u{c}\n\r\t你😀\u{FFFD}!"));
}

#[test]
fn the_last_of_equal_fields_wins() {
    assert_eq!(parse(r#"{"extFields":{"a":"1","a":"2"}}"#).unwrap().fields.get("a"), Some("2"));
}

#[test]
fn broken_headers_are_refused() {
    let deep = format!(r#"{{"x":{}}}"#, "[".repeat(100_000));
    for text in [
        "",
        "[]",
        "{",
        "{\"code\":}",
        "{\"code\":x}",
        "{\"code\":1e}",
        "{\"code\":99999999999}",
        "{\"code\":{}}",
        "{\"code\":1,}",
        "{\"code\":1} x",
        "{\"a\":\"\\",
        "{\"a\":\"\\u12",
        "{\"a\":\"\\x\"}",
        "{\"extFields\":3}",
        "{\"a\":[}]}",
        &deep,
    ] {
        assert!(matches!(parse(text), Err(HeaderError::Json { .. })), "{text:.40}");
    }
    let many: String = (0..=Fields::COUNT_MAX).map(|n| format!(r#""{n}":"","#)).collect();
    let many = format!(r#"{{"extFields":{{{many}"z":""}}}}"#);
    assert_eq!(parse(&many), Err(HeaderError::TooManyFields));
}

#[test]
fn errors_name_the_field() {
    let header = parse(r#"{"extFields":{"queueId":"x","n":"5000000000","empty":"","yes":"TRUE"}}"#).unwrap();
    let fields = &header.fields;
    let missing = fields.required("topic").unwrap_err();
    assert_eq!(missing.to_string(), "field topic is missing");
    let wrong = fields.number::<i32>("queueId").unwrap_err();
    assert_eq!(wrong.to_string(), "field queueId is not a number within range: \"x\"");
    assert!(fields.number::<i32>("n").is_err());
    assert_eq!(fields.number::<i64>("n"), Ok(5_000_000_000));
    assert_eq!(fields.number_or("empty", 7), Ok(7));
    assert!(fields.flag("yes") && !fields.flag("no") && fields.flag_or("no", true));
}

#[test]
fn binary_headers_with_wrong_lengths_are_refused() {
    let whole: Vec<u8> = [&[0, 105, 0, 1, 0xDF, 0, 0, 0, 1, 0, 0, 0, 0][..], &[0; 8]].concat();
    assert!(binary::parse(&whole).is_ok());
    for end in 0..whole.len() {
        assert!(matches!(binary::parse(&whole[..end]), Err(HeaderError::Binary { .. })));
    }
    let mut negative = whole;
    negative[17..].copy_from_slice(&[0xFF; 4]);
    assert_eq!(binary::parse(&negative), Err(HeaderError::Binary { part: "the fields" }));
}

proptest! {
    #[test]
    fn no_bytes_panic(bytes: Vec<u8>) {
        let _json = json::parse(&bytes);
        let _binary = binary::parse(&bytes);
    }

    #[test]
    fn no_text_like_json_panics(text in r#"[{}\[\]":,\\a-f0-9u .-]{0,60}"#) {
        let _json = parse(&text);
        let within = format!("{{\"extFields\":{{\"a\":{text}}}}}");
        let _json = parse(&within);
    }
}

use proptest::prelude::*;

use super::*;
use crate::code::RequestCode;
use crate::frame::{self, FRAME_BYTES_MAX};
use crate::header::FLAG_ONEWAY;

const REPLY: ReplyTo = ReplyTo { opaque: 5, encoding: Encoding::Json, oneway: false };

fn header_text(wire: &[u8]) -> String {
    let (frame, _) = frame::decode(wire, FRAME_BYTES_MAX).unwrap().unwrap();
    String::from_utf8(frame.header.to_vec()).unwrap()
}

#[test]
fn answers_have_all_their_fields_as_text() {
    let mut out = BytesMut::new();
    REPLY.success(
        &mut out,
        &[("queueOffset", 0_u64.into()), ("TRACE_ON", true.into()), ("x", "ü\u{1}\"".into())],
    );
    let expected = concat!(
        r#"{"code":0,"extFields":{"queueOffset":"0","TRACE_ON":"true","x":"ü\u0001\""},"#,
        r#""flag":1,"language":"JAVA","opaque":5,"version":479}"#
    );
    assert_eq!(header_text(&out), expected);
}

#[test]
fn refusals_carry_a_remark() {
    let mut out = BytesMut::new();
    REPLY.failure(&mut out, ResponseCode::REQUEST_CODE_NOT_SUPPORTED, " request type 9999 not supported");
    let expected = concat!(
        r#"{"code":3,"extFields":{},"flag":1,"language":"JAVA","opaque":5,"#,
        r#""remark":" request type 9999 not supported","version":479}"#
    );
    assert_eq!(header_text(&out), expected);
}

#[test]
fn oneway_requests_are_not_answered() {
    let mut out = Outbox::default();
    let reply = ReplyTo { oneway: true, ..REPLY };
    reply.respond(&mut out, ResponseCode::SUCCESS, None, &[], Bytes::from_static(b"body"));
    reply.failure(out.buffer(), ResponseCode::SYSTEM_ERROR, "x");
    assert!(out.is_empty());
}

#[test]
fn a_send_in_binary_has_the_bytes_of_the_java_client() {
    let fields = [
        ("a", "PG".into()),
        ("b", "T".into()),
        ("c", "TBW102".into()),
        ("d", 4.into()),
        ("e", 1.into()),
        ("f", 0.into()),
        ("g", 1_700_000_000_000_i64.into()),
        ("h", 0.into()),
        ("i", "k\u{1}v\u{2}".into()),
        ("j", 0.into()),
        ("k", false.into()),
        ("m", false.into()),
    ];
    let code = RequestCode::SEND_MESSAGE_V2.0;
    let header =
        Outgoing { encoding: Encoding::Binary, code, opaque: 2, flag: 0, remark: None, fields: &fields };
    let mut out = BytesMut::new();
    header.write(2, &mut out);
    out.put_slice(b"hi");
    let expected = [
        "0000009801000092",
        "01360001DF0000000200000000",
        "000000000000007D",
        "0001610000000250470001620000000154",
        "00016300000006544257313032",
        "0001640000000134000165000000013100016600000001300001670000000D31373030303030303030303030",
        "0001680000000130",
        "000169000000046B017602",
        "00016A0000000130",
        "00016B0000000566616C7365",
        "00016D0000000566616C7365",
        "6869",
    ];
    let found: String = out.iter().map(|byte| format!("{byte:02X}")).collect();
    assert_eq!(found, expected.concat());
}

#[test]
fn codes_beyond_the_binary_form_go_as_json() {
    let mut out = BytesMut::new();
    let header =
        Outgoing { encoding: Encoding::Binary, code: 200_050, opaque: 1, flag: 0, remark: None, fields: &[] };
    header.write(0, &mut out);
    assert!(header_text(&out).starts_with(r#"{"code":200050"#));
}

#[test]
fn an_answer_that_outgrows_its_header_says_so() {
    let huge = "\u{1}".repeat(HEADER_BYTES_MAX / 4);
    let mut out = BytesMut::new();
    REPLY.success(&mut out, &[("value", (&huge).into())]);
    let (frame, _) = frame::decode(&out, FRAME_BYTES_MAX).unwrap().unwrap();
    let header = frame.parse().unwrap();
    assert_eq!(header.response_code(), ResponseCode::SYSTEM_ERROR);
    assert!(header.remark.unwrap().starts_with("the header would have"));
}

proptest! {
    #[test]
    fn headers_read_back(
        binary: bool,
        code: i16,
        opaque: i32,
        oneway: bool,
        remark in proptest::option::of(".{1,20}"),
        fields in proptest::collection::vec(("[a-zA-Z]{1,5}", ".{1,20}"), 0..8),
    ) {
        let encoding = if binary { Encoding::Binary } else { Encoding::Json };
        let values: Vec<_> = fields.iter().map(|(name, value)| (&**name, Value::from(value))).collect();
        let flag = if oneway { FLAG_ONEWAY } else { 0 };
        let outgoing =
            Outgoing { encoding, code: code.into(), opaque, flag, remark: remark.as_deref(), fields: &values };
        let mut wire = BytesMut::new();
        outgoing.write(0, &mut wire);
        let (frame, consumed) = frame::decode(&wire, FRAME_BYTES_MAX).unwrap().unwrap();
        prop_assert_eq!(consumed, wire.len());
        let header = frame.parse().unwrap();
        prop_assert_eq!((header.code, header.opaque, header.is_oneway()), (code.into(), opaque, oneway));
        prop_assert_eq!(header.remark.as_deref(), remark.as_deref());
        let found: Vec<_> = header.fields.iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
        prop_assert_eq!(found, fields);
    }
}

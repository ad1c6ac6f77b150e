use proptest::prelude::*;

use super::*;

fn unhex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> = text.bytes().filter(|byte| !byte.is_ascii_whitespace()).collect();
    let pairs = digits.chunks(2).map(|pair| std::str::from_utf8(pair).unwrap());
    pairs.map(|pair| u8::from_str_radix(pair, 16).unwrap()).collect()
}

fn check(bytes: &[u8], expected: Result<Option<usize>, FrameError>) {
    let found = decode(bytes, FRAME_BYTES_MAX).map(|found| found.map(|(_, consumed)| consumed));
    assert_eq!(found, expected, "{bytes:02X?}");
}

#[test]
fn frames_are_found_and_broken_ones_named_as_early_as_possible() {
    check(&[], Ok(None));
    check(&unhex("000000"), Ok(None));
    check(&unhex("00000004 00000000"), Ok(Some(8)));
    check(&unhex("00000004 00000000 FF"), Ok(Some(8)));
    check(&unhex("00000006 00000001 7B"), Ok(None));
    check(&unhex("00000006 00000001 7B 41"), Ok(Some(10)));
    check(&unhex("00000003"), Err(FrameError::TooShort { length: 3 }));
    check(&unhex("FFFFFFFF"), Err(FrameError::TooShort { length: -1 }));
    check(&unhex("00FFFFFC"), Ok(None));
    let frame_bytes_max = FRAME_BYTES_MAX;
    check(&unhex("00FFFFFD"), Err(FrameError::TooLong { frame_bytes: FRAME_BYTES_MAX + 1, frame_bytes_max }));
    // The beginning of a TLS handshake.
    check(&unhex("16030100"), Err(FrameError::TooLong { frame_bytes: 0x1603_0104, frame_bytes_max }));
    check(&unhex("00000005 02000000"), Err(FrameError::UnknownEncoding(2)));
    check(&unhex("00000005 00000002"), Err(FrameError::HeaderTooLong { header_bytes: 2, frame_bytes: 9 }));
}

#[test]
fn the_routes_request_of_a_java_client_is_read_in_both_encodings() {
    let json = br#"{"code":105,"extFields":{"topic":"TopicTest"},"flag":0,"language":"JAVA","opaque":1,"serializeTypeCurrentRPC":"JSON","version":479}"#;
    let mut wire = unhex("00000087 00000083");
    wire.extend_from_slice(json);
    let binary = unhex(
        "0000002D 01000029 0069 00 01DF 00000001 00000000 00000000 00000014
         0005 746F706963 00000009 546F70696354657374",
    );
    for wire in [wire, binary] {
        let (frame, consumed) = decode(&wire, FRAME_BYTES_MAX).unwrap().unwrap();
        assert_eq!(consumed, wire.len());
        assert_eq!(need(&wire), Some(wire.len()));
        assert_eq!(frame.to_vec(), wire);
        let header = frame.parse().unwrap();
        assert_eq!((header.code, header.opaque, header.flag, header.version), (105, 1, 0, 479));
        assert_eq!(header.fields.get("topic"), Some("TopicTest"));
    }
}

proptest! {
    #[test]
    fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        if let Ok(Some((frame, consumed))) = decode(&bytes, 128) {
            prop_assert_eq!(frame.to_vec(), &bytes[..consumed]);
            let _parsed = frame.parse();
        }
    }

    #[test]
    fn frames_read_back(binary: bool, header: Vec<u8>, body: Vec<u8>) {
        let encoding = if binary { Encoding::Binary } else { Encoding::Json };
        let frame = Frame { encoding, header: &header, body: &body };
        let wire = frame.to_vec();
        prop_assert_eq!(decode(&wire, FRAME_BYTES_MAX), Ok(Some((frame, wire.len()))));
        for end in 0..wire.len() {
            prop_assert_eq!(decode(&wire[..end], FRAME_BYTES_MAX), Ok(None));
        }
    }
}

use super::*;

const FIELDS: SegmentFields = SegmentFields {
    log_id: LogId::from_bytes([1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16]),
    base: PhysicalOffset::new(0x1_0000),
    segment_bytes: 0x1_0000,
    created_at: 1_700_000_000_000,
    epoch: Epoch::new(3),
    epoch_start: PhysicalOffset::new(0x1_1010),
};

const GOLDEN: [u8; SEGMENT_HEADER_BYTES] = [
    b'S', b'K', b'Y', b'L', b'K', b'S', b'E', b'G', // magic
    0x01, 0x00, 0x00, 0x00, // format_version
    0x03, 0x00, 0x00, 0x00, // epoch
    0x01, 0x02, 0x03, 0x04, 0x05, 0x06, 0x07, 0x08, 0x09, 0x0a, 0x0b, 0x0c, 0x0d, 0x0e, 0x0f,
    0x10, // log_id
    0x00, 0x00, 0x01, 0x00, 0x00, 0x00, 0x00, 0x00, // base
    0x00, 0x00, 0x01, 0x00, 0x00, 0x00, 0x00, 0x00, // segment_bytes
    0x00, 0x68, 0xe5, 0xcf, 0x8b, 0x01, 0x00, 0x00, // created_at
    0x10, 0x10, 0x01, 0x00, 0x00, 0x00, 0x00, 0x00, // epoch_start
    0x00, 0x00, 0x00, 0x00, // zero
    0xa1, 0x31, 0xe6, 0xc7, // crc
];

#[test]
fn golden_bytes() {
    assert_eq!(SegmentHeader::new(&FIELDS).as_bytes(), &GOLDEN);
    assert_eq!(SegmentHeader::parse(&GOLDEN).unwrap().fields(), FIELDS);
}

#[test]
fn every_flipped_bit_is_noticed() {
    for bit in 0..GOLDEN.len() * 8 {
        let mut bytes = GOLDEN;
        bytes[bit / 8] ^= 1 << (bit % 8);
        assert!(SegmentHeader::parse(&bytes).is_err(), "bit {bit}");
    }
}

#[test]
fn another_version_is_refused_by_name() {
    let mut bytes = GOLDEN;
    bytes[8] = 2;
    let flipped = SegmentHeader::parse(&bytes).unwrap_err();
    assert!(matches!(flipped, SegmentError::Crc { .. }), "a flipped bit is not another release");
    let crc = crc32c::crc32c(&bytes[..68]);
    bytes[68..72].copy_from_slice(&crc.to_le_bytes());
    assert_eq!(SegmentHeader::parse(&bytes).unwrap_err(), SegmentError::FormatVersion { found: 2 });
}

#[test]
fn names_are_bases() {
    let base = PhysicalOffset::new(1 << 28);
    assert_eq!(segment_name(base), "log/00000000000268435456.seg");
    assert_eq!(segment_base("00000000000268435456.seg"), Some(base));
    for stranger in [
        "268435456.seg",
        "00000000000268435456.idx",
        "0000000000026843545x.seg",
        "99999999999999999999.seg",
        "spare",
    ] {
        assert_eq!(segment_base(stranger), None, "{stranger}");
    }
}

#[test]
fn lengths_have_bounds() {
    assert!([SEGMENT_BYTES_MIN, SEGMENT_BYTES_DEFAULT, SEGMENT_BYTES_MAX].into_iter().all(is_segment_length));
    for wrong in
        [0, SEGMENT_BYTES_MIN - BLOCK_BYTES, SEGMENT_BYTES_MIN + 512, SEGMENT_BYTES_MAX + BLOCK_BYTES]
    {
        assert!(!is_segment_length(wrong), "{wrong}");
    }
}

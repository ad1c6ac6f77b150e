use super::*;

const RECORD: EpochRecord = EpochRecord {
    epoch: Epoch::new(3),
    start: PhysicalOffset::new(0x1_1010),
    previous: Some(EpochStart { epoch: Epoch::new(2), start: PhysicalOffset::new(0x1010) }),
    cause: Cause::Opened,
};

#[test]
fn golden_bytes() {
    let expected = [
        0x10, 0x10, 0x01, 0x00, 0x00, 0x00, 0x00, 0x00, // start
        0x10, 0x10, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, // previous_start
        0x03, 0x00, 0x00, 0x00, // epoch
        0x02, 0x00, 0x00, 0x00, // previous
        0x01, // cause
        0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00,
    ];
    assert_eq!(RECORD.to_bytes(), expected);
    assert_eq!(EpochRecord::parse(&expected), Ok(RECORD));
}

#[test]
fn the_first_epoch_has_none_before() {
    let first = EpochRecord { previous: None, cause: Cause::Leadership, ..RECORD };
    assert_eq!(EpochRecord::parse(&first.to_bytes()), Ok(first));
}

#[test]
fn what_no_epoch_record_says_is_refused() {
    let refused = |edit: fn(&mut [u8; EPOCH_PAYLOAD_BYTES])| {
        let mut bytes = RECORD.to_bytes();
        edit(&mut bytes);
        EpochRecord::parse(&bytes).unwrap_err()
    };
    assert_eq!(refused(|bytes| bytes[24] = 0), EpochError::Cause { found: 0 });
    assert_eq!(refused(|bytes| bytes[31] = 1), EpochError::NotZero);
    assert!(matches!(refused(|bytes| bytes[20] = 3), EpochError::Order { .. }), "its own predecessor");
    assert!(matches!(refused(|bytes| bytes[20] = 0), EpochError::Order { .. }), "a start without an epoch");
    assert!(matches!(refused(|bytes| bytes[10] = 2), EpochError::Order { .. }), "a predecessor further on");
    assert_eq!(EpochRecord::parse(&RECORD.to_bytes()[1..]), Err(EpochError::Length { have: 31 }));
}

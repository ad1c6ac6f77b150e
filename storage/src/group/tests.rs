use super::*;
use crate::log_id::LogId;

fn seed() -> Seed {
    LogId::from_bytes([1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16]).seed()
}

const AT: PhysicalOffset = PhysicalOffset::new(0x1_1050);

const GOLDEN: [u8; 16] = [
    0x60, 0x00, 0x00, 0x00, // group_bytes: 96
    0x00, 0x00, 0x00, 0x00, // undurable_bytes
    0x1b, 0xae, 0xa2, 0x6c, // chain
    0x80, 0x55, 0x82, 0xe4, // crc
];

#[test]
fn golden_bytes() {
    let header = GroupHeader::new(seed(), AT, 96, 0, Chain::new(0x6ca2_ae1b));
    assert_eq!(header.as_bytes(), &GOLDEN);
    let parsed = GroupHeader::parse(seed(), AT, &GOLDEN).unwrap();
    assert_eq!((parsed.group_bytes(), parsed.undurable_bytes()), (96, 0));
    assert_eq!(parsed.chain(), Chain::new(0x6ca2_ae1b));
}

#[test]
fn the_chain_goes_through_every_header() {
    let header = GroupHeader::parse(seed(), AT, &GOLDEN).unwrap();
    let chain = |records: &[u32]| {
        let mut chain = ChainBuilder::default();
        records.iter().for_each(|&crc| chain.record(crc));
        chain.finish(&header)
    };
    assert_eq!(chain(&[0x5161_cfae, 0x11a9_1d50]), Chain::new(0xc74f_4516));
    assert_ne!(chain(&[0x11a9_1d50, 0x5161_cfae]), Chain::new(0xc74f_4516), "order counts");
    assert_ne!(chain(&[0x5161_cfae]), Chain::new(0xc74f_4516), "so does every record");
}

#[test]
fn every_flipped_bit_is_noticed() {
    for bit in 0..GOLDEN.len() * 8 {
        let mut bytes = GOLDEN;
        bytes[bit / 8] ^= 1 << (bit % 8);
        assert!(GroupHeader::parse(seed(), AT, &bytes).is_err(), "bit {bit}");
    }
}

#[test]
fn a_group_elsewhere_or_of_another_log_is_refused() {
    assert!(GroupHeader::parse(seed(), AT.advance(8), &GOLDEN).is_err());
    assert!(GroupHeader::parse(LogId::from_bytes([0; 16]).seed(), AT, &GOLDEN).is_err());
    assert_eq!(
        GroupHeader::parse(seed(), AT, &GOLDEN[..15]).unwrap_err(),
        GroupError::Truncated { have: 15 }
    );
}

#[test]
fn impossible_lengths_are_refused() {
    for group_bytes in [0, 16, GROUP_BYTES_MAX + 8, u32::MAX] {
        let header = GroupHeader::new(seed(), AT, group_bytes, 0, Chain::START);
        let refused = GroupHeader::parse(seed(), AT, header.as_bytes()).unwrap_err();
        assert_eq!(refused, GroupError::Length { group_bytes });
    }
}

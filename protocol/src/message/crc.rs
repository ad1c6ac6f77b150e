//! The body's checksum.

/// CRC-32 (IEEE) with the top bit cleared, because Java's integers have a sign.
pub fn body_crc(body: &[u8]) -> u32 {
    crc32fast::hash(body) & 0x7FFF_FFFF
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn crcs_are_rocketmq_s() {
        assert_eq!(body_crc(b"hello"), 0x3610_A686);
        assert_eq!(body_crc(b"a"), 0x68B7_BE43);
    }
}

//! What Java computes and the wire carries.

/// Java's `String.hashCode`: over UTF-16 code units, wrapping.
pub fn string_hash(text: &str) -> i32 {
    text.encode_utf16().fold(0, |hash: i32, unit| hash.wrapping_mul(31).wrapping_add(unit.into()))
}

/// What a consume queue holds for a message with these tags: 0 for none, else the hash of the whole text.
///
/// RocketMQ's files hold it sign-extended to 64 bits; subscriptions compare 32.
pub fn tag_hash(tags: Option<&str>) -> i32 {
    tags.map_or(0, string_hash)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hashes_are_java_s() {
        for (text, hash) in [
            ("", 0),
            ("TagA", 2_598_919),
            ("TagB", 2_598_920),
            ("Aa", 2112),
            ("BB", 2112),
            ("你好", 652_829),
            ("😀", 1_772_899),
            ("polygenelubricants", i32::MIN),
            ("TopicTest#key1", -1_655_984_460),
        ] {
            assert_eq!(string_hash(text), hash, "{text}");
        }
        assert_eq!(tag_hash(None), 0);
    }
}

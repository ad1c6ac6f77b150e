use std::sync::Arc;

use skylark_storage::Files;
use skylark_storage::device::simulated::Disk;

use super::*;
use crate::{Entry, Extras, Index};

const LOG: LogId = LogId::from_bytes([1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16]);

/// The file of the log's second segment: of queue 1 of `orders`, which had a message in the first, the message with
/// queue offset 1, and one with queue offset 2, which has a key and is due at a time.
fn file() -> Vec<u8> {
    let files: Arc<dyn Files> = Arc::new(Disk::new(0));
    let mut index = Index::new();
    let queue = index.register("orders", 1);
    let entry = |queue_offset, at| Entry {
        queue_offset,
        physical_offset: PhysicalOffset::new(at),
        record_bytes: 240,
        tag_hash: -2,
        stored_at: 1_700_000_000_000 + queue_offset,
    };
    index.begin_segment(PhysicalOffset::ZERO, 1_700_000_000_000).unwrap();
    index.push(queue, entry(0, 4112), Extras::default()).unwrap();
    index.begin_segment(PhysicalOffset::new(65536), 1_700_000_000_000).unwrap();
    index.push(queue, entry(1, 69648), Extras::default()).unwrap();
    let extras = Extras { keys: &[crate::key_hash("orders", "17")], due: Some(1_700_000_060_000) };
    index.push(queue, entry(2, 69888), extras).unwrap();
    index.begin_segment(PhysicalOffset::new(131_072), 1_700_000_000_003).unwrap();
    while let Some(unsealed) = index.unsealed() {
        assert!(index.attach(unsealed.write(&files, LOG).unwrap()));
    }
    let file = files.open("log/00000000000000065536.idx").unwrap();
    let mut bytes = vec![0; usize::try_from(file.len().unwrap()).unwrap()];
    file.read_at(0, &mut bytes).unwrap();
    bytes
}

/// Of each page, what is not zero in front, and its checksum.
const GOLDEN: [(&str, &str); 6] = [
    (
        "53 4b 59 4c 4b 49 44 58 01 00 00 00 02 00 00 00 \
         01 02 03 04 05 06 07 08 09 0a 0b 0c 0d 0e 0f 10 \
         00 00 01 00 00 00 00 00 00 00 02 00 00 00 00 00 \
         00 68 e5 cf 8b 01 00 00 01 68 e5 cf 8b 01 00 00 \
         02 68 e5 cf 8b 01 00 00 60 52 e6 cf 8b 01 00 00 \
         60 52 e6 cf 8b 01 00 00 01 00 00 00 01 00 00 00 \
         02 00 00 00 06 00 00 00 03 00 00 00 02 00 00 00 \
         04 00 00 00 01 00 00 00 05 00 00 00 01 00 00 00 \
         06 00 00 00",
        "8c 7e 55 75",
    ),
    (
        "01 00 00 00 00 00 00 00 02 00 00 00 00 00 00 00 \
         01 00 00 00 01 00 00 00 00 00 00 00 06 00 00 00 \
         02 00 00 00 01 00 00 00 00 00 00 00 01 00 00 00 \
         00 00 00 00",
        "56 35 f4 26",
    ),
    ("6f 72 64 65 72 73", "82 9f ee 10"),
    (
        "10 10 00 00 f0 00 00 00 fe ff ff ff 01 00 00 00 \
         00 11 00 00 f0 00 00 00 fe ff ff ff 02 00 00 00",
        "1c c1 f8 25",
    ),
    ("81 c9 87 52 01 00 00 00", "6d 7c b3 74"),
    ("60 52 e6 cf 8b 01 00 00 00 11 00 00 f0 00 00 00", "d2 d0 b5 e3"),
];

#[test]
fn bytes_are_fixed() {
    let file = file();
    assert_eq!(file.len(), GOLDEN.len() * PAGE_BYTES);
    let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<Vec<_>>().join(" ");
    for (number, (page, (content, crc))) in file.chunks(PAGE_BYTES).zip(GOLDEN).enumerate() {
        let (found, found_crc) = page.split_at(CONTENT_BYTES);
        let length = content.split_whitespace().count();
        assert_eq!(
            hex(&found[..length]),
            content.split_whitespace().collect::<Vec<_>>().join(" "),
            "page {number}"
        );
        assert!(found[length..].iter().all(|&byte| byte == 0), "page {number}: {}", hex(&found[length..200]));
        assert_eq!(hex(found_crc), crc, "page {number}");
    }
}

#[test]
fn a_header_says_what_it_was_told() {
    let mut page = Page::ZERO;
    page.bytes_mut().copy_from_slice(&file()[..PAGE_BYTES]);
    assert!(page.is_sound(LOG, PhysicalOffset::new(65536), 0));
    assert!(!page.is_sound(LOG, PhysicalOffset::new(65536), 1), "another page");
    assert!(!page.is_sound(LOG, PhysicalOffset::ZERO, 0), "another segment's");
    assert!(!page.is_sound(LogId::from_bytes([0; 16]), PhysicalOffset::new(65536), 0), "another log's");
    let summary = Summary::from_page(&page).unwrap();
    assert_eq!((summary.number, summary.counts, summary.pages()), (2, [1, 6, 2, 1, 1], 6));
    assert_eq!(summary.end, PhysicalOffset::new(131_072));
    // Whatever byte changes, it is another header or none: nothing is said twice that could differ.
    for at in 0..CONTENT_BYTES {
        page.bytes_mut()[at] ^= 0x40;
        assert_ne!(Summary::from_page(&page), Some(summary), "byte {at}");
        page.bytes_mut()[at] ^= 0x40;
    }
}

#[test]
fn names_are_bases() {
    for base in [0, 65536, u64::MAX].map(PhysicalOffset::new) {
        let name = file_name(base);
        assert_eq!(file_base(name.strip_prefix("log/").unwrap()), Some(base));
    }
    for name in ["0.idx", "00000000000000065536.seg", "0000000000000006553x.idx", "99999999999999999999.idx"]
    {
        assert_eq!(file_base(name), None, "{name}");
    }
}

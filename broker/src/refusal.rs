//! Why sends are refused for the store's sake: so that what the broker has to write itself finds room.

use std::io;

use skylark_storage::device::Space;

/// So many finished segments may wait in memory for their index files. At a hundred bytes a message and segments of
/// 256 MiB each of them takes some 60 MB.
pub const UNSEALED_MAX: usize = 8;

/// Why sends are refused on a disk that is used above `refuse_percent`, if it is.
pub fn by_space(directory: &str, refuse_percent: u8, space: Space) -> Option<String> {
    let used = space.used_percent();
    (used > f64::from(refuse_percent)).then(|| {
        format!(
            "the disk under {directory} is {used:.1} % full, and sends are refused above {refuse_percent} %: {} of {} \
             bytes are left",
            space.available_bytes, space.total_bytes
        )
    })
}

/// Why sends are refused while so many finished segments have their indexes in memory, if they are.
pub fn by_unsealed(count: usize, error: Option<&io::Error>) -> Option<String> {
    (count > UNSEALED_MAX).then(|| {
        let error = error.map_or_else(|| "they are being written".to_owned(), ToString::to_string);
        format!(
            "{count} finished segments wait for their index files, and sends are refused above {UNSEALED_MAX}: {error}"
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_disk_refuses_with_its_place_and_numbers() {
        let refusal = |available_bytes| by_space("/data", 90, Space { total_bytes: 1000, available_bytes });
        assert_eq!(refusal(100), None);
        assert_eq!(
            refusal(99).unwrap(),
            "the disk under /data is 90.1 % full, and sends are refused above 90 %: 99 of 1000 bytes are left"
        );
    }

    #[test]
    fn what_cannot_be_sealed_refuses_with_the_reason() {
        let error = io::Error::other("no inodes");
        assert_eq!(by_unsealed(UNSEALED_MAX, Some(&error)), None);
        assert_eq!(
            by_unsealed(UNSEALED_MAX + 1, Some(&error)).unwrap(),
            "9 finished segments wait for their index files, and sends are refused above 8: no inodes"
        );
    }
}

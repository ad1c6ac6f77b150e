//! Where bytes stay from the socket until they are whole frames.

/// One connection's read buffer.
///
/// ```text
///  0 ──── consumed ──── start ──── pending ──── end ──── room ──── capacity
/// ```
///
/// All of it is initialised, once, when it grows; it holds nothing while nothing is pending and the connection
/// is idle.
#[derive(Debug, Default)]
pub(crate) struct ReadBuffer {
    bytes: Vec<u8>,
    start: usize,
    end: usize,
    /// The last read left no room: more is likely to be there than the buffer holds.
    was_filled: bool,
}

impl ReadBuffer {
    /// The smallest buffer, enough for the conversation of an unhurried client.
    const BYTES_MIN: usize = 4 << 10;
    /// What a buffer grows to on its own: a busy connection's frames, read many at a time.
    pub(crate) const BATCH_BYTES: usize = 64 << 10;
    /// A buffer that has grown beyond this for one frame is given back behind it. Smaller ones stay until the
    /// connection is idle, because a consumer's next answer is as long as the last.
    const KEPT_BYTES_MAX: usize = 1 << 20;

    pub(crate) fn pending(&self) -> &[u8] {
        &self.bytes[self.start..self.end]
    }

    pub(crate) fn capacity(&self) -> usize {
        self.bytes.len()
    }

    /// The capacity wanted before the next read, when the frame at the front announces `need` bytes (0 when that
    /// is not known).
    ///
    /// Beyond a batch the buffer doubles each time the frame has filled it: never more than twice what the peer
    /// has really sent.
    pub(crate) fn wanted(&self, need: usize) -> usize {
        let grown =
            if self.was_filled { (self.capacity() * 2).min(Self::BATCH_BYTES) } else { self.capacity() };
        match need {
            _ if need <= grown => grown.max(Self::BYTES_MIN),
            _ if need <= Self::BATCH_BYTES => need.next_power_of_two().max(Self::BYTES_MIN),
            _ if self.capacity() >= Self::BATCH_BYTES && self.pending().len() < self.capacity() => {
                self.capacity()
            }
            _ => (self.capacity() * 2).clamp(Self::BATCH_BYTES, need),
        }
    }

    /// Grows to `capacity` if it is smaller, and makes room for a frame of `need` bytes, or for its next bytes.
    pub(crate) fn make_room(&mut self, capacity: usize, need: usize) {
        if capacity > self.bytes.len() {
            let mut bytes = vec![0; capacity];
            let pending = self.end - self.start;
            bytes[..pending].copy_from_slice(self.pending());
            *self = Self { bytes, start: 0, end: pending, was_filled: false };
        } else if self.start > 0 && (self.end == self.bytes.len() || self.start + need > self.bytes.len()) {
            self.bytes.copy_within(self.start..self.end, 0);
            self.end -= self.start;
            self.start = 0;
        }
    }

    /// Where the next bytes go.
    pub(crate) fn room(&mut self) -> &mut [u8] {
        &mut self.bytes[self.end..]
    }

    /// So many bytes were put into the room.
    pub(crate) fn filled(&mut self, bytes: usize) {
        self.end += bytes;
        self.was_filled = self.end == self.bytes.len();
    }

    /// Drops the first pending bytes.
    pub(crate) fn consume(&mut self, bytes: usize) {
        self.start += bytes;
        debug_assert!(self.start <= self.end, "only pending bytes are consumed");
        if self.start == self.end {
            self.start = 0;
            self.end = 0;
            if self.bytes.len() > Self::KEPT_BYTES_MAX {
                self.release();
            }
        }
    }

    /// Gives back what the pending bytes do not need, down to a batch.
    pub(crate) fn shrink(&mut self) {
        self.release();
        let pending = self.end - self.start;
        if self.capacity() > Self::BATCH_BYTES && pending < Self::BATCH_BYTES {
            let mut bytes = vec![0; Self::BATCH_BYTES];
            bytes[..pending].copy_from_slice(self.pending());
            *self = Self { bytes, start: 0, end: pending, was_filled: false };
        }
    }

    /// Gives the memory back if nothing is pending.
    pub(crate) fn release(&mut self) {
        if self.start == self.end {
            *self = Self::default();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn feed(buffer: &mut ReadBuffer, need: usize, bytes: &[u8]) {
        buffer.make_room(buffer.wanted(need), need);
        buffer.room()[..bytes.len()].copy_from_slice(bytes);
        buffer.filled(bytes.len());
    }

    #[test]
    fn a_long_frame_gets_its_room_as_it_arrives_and_gives_it_back() {
        let mut buffer = ReadBuffer::default();
        feed(&mut buffer, 0, b"begin");
        assert_eq!(buffer.capacity(), ReadBuffer::BYTES_MIN);
        let need = 2_000_000;
        let mut capacities = Vec::new();
        while buffer.pending().len() < need {
            buffer.make_room(buffer.wanted(need), need);
            capacities.push(buffer.capacity() >> 10);
            let room = buffer.room();
            // The first byte of each room alone first: what is not filled does not grow.
            room[0] = 7;
            buffer.filled(1);
            assert_eq!(buffer.wanted(need), buffer.capacity());
            let room = buffer.room();
            room.fill(7);
            let bytes = room.len();
            buffer.filled(bytes);
        }
        assert_eq!(capacities, [64, 128, 256, 512, 1024, need >> 10]);
        assert_eq!((buffer.capacity(), buffer.pending().len()), (need, need));
        assert_eq!(&buffer.pending()[..5], b"begin");
        assert!(buffer.pending()[5..].iter().all(|byte| *byte == 7));
        buffer.consume(need);
        assert_eq!(buffer.capacity(), 0);
    }

    #[test]
    fn what_is_pending_outlives_shrinking() {
        let mut buffer = ReadBuffer::default();
        for need in [100_000, 200_000] {
            while buffer.pending().len() < need {
                let missing = need - buffer.pending().len();
                buffer.make_room(buffer.wanted(need), need);
                let bytes = buffer.room().len().min(missing);
                buffer.filled(bytes);
            }
            buffer.consume(need - 3);
            buffer.shrink();
            assert_eq!((buffer.capacity(), buffer.pending()), (ReadBuffer::BATCH_BYTES, &[0; 3][..]));
        }
        buffer.consume(3);
        buffer.shrink();
        assert_eq!(buffer.capacity(), 0);
    }

    #[test]
    fn a_busy_buffer_grows_to_a_batch_and_no_further() {
        let mut buffer = ReadBuffer::default();
        for _ in 0..10 {
            buffer.make_room(buffer.wanted(0), 0);
            let room = buffer.room().len();
            buffer.filled(room);
            buffer.consume(room);
        }
        assert_eq!(buffer.capacity(), ReadBuffer::BATCH_BYTES);
        buffer.release();
        assert_eq!(buffer.capacity(), 0);
    }

    #[test]
    fn what_is_pending_moves_to_the_front_when_its_frame_would_not_fit() {
        let mut buffer = ReadBuffer::default();
        feed(&mut buffer, 0, &[1; 4000]);
        buffer.consume(3990);
        feed(&mut buffer, 200, &[2; 190]);
        assert_eq!(buffer.pending(), [&[1; 10][..], &[2; 190]].concat());
        assert_eq!(buffer.capacity(), ReadBuffer::BYTES_MIN);
    }
}

//! Bytes of the fuzzer, taken one behind the other.

/// What is left of the input; zeros when nothing is.
#[derive(Debug)]
pub struct Input<'a>(&'a [u8]);

impl<'a> Input<'a> {
    /// All of it.
    pub fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    /// Whether nothing is left.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The next byte.
    pub fn byte(&mut self) -> u8 {
        self.array::<1>()[0]
    }

    /// The next three bytes.
    pub fn number(&mut self) -> u64 {
        self.array::<3>().into_iter().fold(0, |number, byte| number << 8 | u64::from(byte))
    }

    /// Mostly zero, and otherwise any number: what is to be added to a field that would be right.
    pub fn tweak(&mut self) -> u64 {
        match self.byte() {
            0..192 => 0,
            192..224 => u64::from(self.byte()),
            224..240 => u64::from(self.byte()).wrapping_neg(),
            _ => u64::from_le_bytes(self.array()),
        }
    }

    /// As many of the next bytes as there are, up to `length`.
    pub fn take(&mut self, length: usize) -> &'a [u8] {
        let (taken, rest) = self.0.split_at(length.min(self.0.len()));
        self.0 = rest;
        taken
    }

    /// Everything that is left.
    pub fn rest(&mut self) -> &'a [u8] {
        std::mem::take(&mut self.0)
    }

    fn array<const N: usize>(&mut self) -> [u8; N] {
        let mut array = [0; N];
        let taken = self.take(N);
        array[..taken.len()].copy_from_slice(taken);
        array
    }
}

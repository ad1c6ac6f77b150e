//! What a client is to those who drive it: it asks, hears, loses its connection, and holds the broker to what it was told.
//!
//! The same clients talk to a process over sockets and to a broker on a simulated disk.

use rand::{RngExt, SeedableRng};
use rand_pcg::Pcg64;
use skylark_protocol::code::RequestCode;
use skylark_protocol::outgoing::Value;

use super::logs::Logs;
use crate::support::raw::Answer;

/// Where requests go.
pub trait Wire {
    /// Asks, and returns the request's number.
    fn ask(&mut self, code: RequestCode, fields: &[(&str, Value<'_>)], body: &[u8]) -> i32;
    /// The broker's clock.
    fn now_ms(&self) -> u64;
}

/// What a client acts with.
pub struct Scene<'a> {
    pub wire: &'a mut dyn Wire,
    pub random: &'a mut Pcg64,
    /// Nothing new begins; what is under way is brought to its end.
    pub is_resting: bool,
}

/// A request outside the traffic, and its answer.
pub trait Look {
    fn look(&mut self, code: RequestCode, fields: &[(&str, Value<'_>)], body: &[u8]) -> Answer;
}

/// One kind of traffic, with its own model of what was promised.
pub trait Client: Send {
    /// A connection is there.
    fn connected(&mut self, _scene: &mut Scene<'_>) {}

    /// Asks for something, at most once, if it has not enough under way.
    fn act(&mut self, scene: &mut Scene<'_>);

    /// Takes an answer, or a request of the broker's.
    fn hear(&mut self, answer: &Answer, scene: &mut Scene<'_>);

    /// The connection is gone: what was under way may have happened or not.
    fn lost(&mut self);

    /// The broker's clock is about to be set: what was known by it is not.
    fn clock_set(&mut self) {}

    /// Holds what the last look found against what it was told.
    ///
    /// # Panics
    /// When a promise is broken.
    fn check(&mut self, logs: &Logs);

    /// What it was promised and has not come yet.
    fn missing(&self, logs: &Logs) -> Option<String>;

    /// How many promises it was given.
    fn promises(&self) -> usize;
}

/// A message, by its producer and its number there.
pub type Name = (u32, u64);

/// The body of a message: anyone can make it again from its name.
pub fn body((producer, sequence): Name) -> Vec<u8> {
    let mut random = Pcg64::seed_from_u64(u64::from(producer) << 40 | sequence);
    let mut body = format!("{producer} {sequence} ").into_bytes();
    let more = random.random_range(0..400);
    body.extend((0..more).map(|_| random.random_range(b'a'..=b'z')));
    body
}

/// Which message has this body.
///
/// # Panics
/// When nobody sent such a body.
pub fn name_of(bytes: &[u8]) -> Name {
    let text = std::str::from_utf8(bytes).expect("a body is text");
    let mut numbers = text.split(' ').map(|part| part.parse::<u64>().ok());
    let (Some(Some(producer)), Some(Some(sequence))) = (numbers.next(), numbers.next()) else {
        panic!("nobody sent {text}");
    };
    let name = (u32::try_from(producer).unwrap(), sequence);
    assert!(bytes == body(name), "the body of {name:?} was altered");
    name
}

/// A property, as messages carry it.
pub fn property(name: &str, value: &str) -> String {
    format!("{name}\u{1}{value}\u{2}")
}

//! Messages that were sent, found by their fingerprints.

use std::collections::VecDeque;

use crate::folds::duplicates::{Fingerprint, SentMessage};

/// Some of the messages that were sent, in the order they were appended.
///
/// Each message of a loaded topic is looked up, enters and leaves, and what that costs is waiting for memory. So a table of
/// lines as long as the processor's has a mark for each message; a mark is dead once its message has left, without a
/// look at it, and its place is free for another.
///
/// Invariant: of several with the same fingerprint the newest is found.
///
/// Memory: 48 bytes for each message and 15 to 22 for finding it, a quarter more while it grows.
pub struct Known {
    messages: VecDeque<SentMessage>,
    /// Number of the first of them. No number is 0, and none comes again.
    first: u64,
    /// Where the marks of messages are, by fingerprint.
    lines: Box<[Line]>,
}

/// A part of the table that is read at once.
///
/// Invariant: a mark that was to be here is in a later line only if `passed_by` is its number or a higher one.
#[derive(Clone, Copy, Default)]
#[repr(align(64))]
struct Line {
    marks: [Mark; MARKS],
    /// The newest message that found no room here.
    passed_by: u64,
}

const _: () = assert!(size_of::<Line>() == 64);

/// A message's number, and behind it 16 bits of its fingerprint, which tell most others apart without a look at them. Dead
/// if the message has left, as the one is that is all zeros.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
struct Mark(u64);

impl Mark {
    fn new(number: u64, fingerprint: Fingerprint) -> Self {
        Self(number << 16 | fingerprint.short() & 0xFFFF)
    }

    fn number(self) -> u64 {
        self.0 >> 16
    }

    fn may_be(self, fingerprint: Fingerprint) -> bool {
        (self.0 ^ fingerprint.short()) & 0xFFFF == 0
    }
}

impl Default for Known {
    fn default() -> Self {
        Self { messages: VecDeque::new(), first: 1, lines: Box::default() }
    }
}

impl Known {
    /// The message with this fingerprint, if it does not lie below `floor`.
    pub fn find(&self, fingerprint: Fingerprint, floor: u64) -> Option<SentMessage> {
        let mut at = self.home(fingerprint);
        for _ in 0..self.lines.len() {
            let line = &self.lines[at];
            if let Some(mark) = line.marks.iter().find(|mark| self.is_of(**mark, fingerprint)) {
                return self.message(*mark).copied().filter(|message| message.at >= floor);
            }
            if line.passed_by < self.first {
                return None;
            }
            at = self.behind(at);
        }
        None
    }

    /// A message was appended behind all others. What lies below `floor` goes, or does so within a few messages.
    pub fn push(&mut self, message: SentMessage, floor: u64) {
        // The oldest have long left the processor's caches, and lie side by side: a look at one is as dear as at several.
        if self.next().is_multiple_of(LEAVING) {
            self.forget_below(floor);
        }
        if self.messages.len() == self.messages.capacity() {
            self.messages.reserve_exact(self.messages.len() / 4 + 16);
        }
        self.messages.push_back(message);
        if self.messages.len() > self.lines.len() * MARKS / 8 * 5 {
            self.grow();
        } else {
            self.mark(self.next() - 1, message.fingerprint);
        }
    }

    /// The number of the next message.
    fn next(&self) -> u64 {
        self.first + self.messages.len() as u64
    }

    fn forget_below(&mut self, floor: u64) {
        while self.messages.pop_front_if(|oldest| oldest.at < floor).is_some() {
            self.first += 1;
        }
    }

    /// Marks the newest message: where one of the same fingerprint is marked, which is not to be found any more, or in the
    /// first place that is free.
    fn mark(&mut self, number: u64, fingerprint: Fingerprint) {
        let home = self.home(fingerprint);
        let (mut at, mut room) = (home, None);
        for _ in 0..self.lines.len() {
            let Line { marks, passed_by } = &self.lines[at];
            if let Some(same) = marks.iter().position(|mark| self.is_of(*mark, fingerprint)) {
                room = Some((at, same));
                break;
            }
            room = room.or_else(|| Some((at, marks.iter().position(|mark| mark.number() < self.first)?)));
            if room.is_some() && *passed_by < self.first {
                break;
            }
            at = self.behind(at);
        }
        let (line, place) = room.expect("there are more places than messages");
        self.lines[line].marks[place] = Mark::new(number, fingerprint);
        let mut passed = home;
        while passed != line {
            self.lines[passed].passed_by = number;
            passed = self.behind(passed);
        }
    }

    /// Makes the table half as large again, and marks all messages anew.
    fn grow(&mut self) {
        let lines = self.lines.len() + self.lines.len() / 2 + 4;
        self.lines = vec![Line::default(); lines].into();
        for at in 0..self.messages.len() {
            self.mark(self.first + at as u64, self.messages[at].fingerprint);
        }
    }

    /// Whether the mark is that of a message which has this fingerprint.
    fn is_of(&self, mark: Mark, fingerprint: Fingerprint) -> bool {
        mark.may_be(fingerprint)
            && self.message(mark).is_some_and(|message| message.fingerprint == fingerprint)
    }

    /// The message of a mark that is not dead.
    fn message(&self, mark: Mark) -> Option<&SentMessage> {
        self.messages.get(usize::try_from(mark.number().checked_sub(self.first)?).ok()?)
    }

    /// The line where a message is marked if there is room.
    fn home(&self, fingerprint: Fingerprint) -> usize {
        let line = (u128::from(fingerprint.spread()) * self.lines.len() as u128) >> 64;
        usize::try_from(line).expect("a line of the table")
    }

    fn behind(&self, at: usize) -> usize {
        if at + 1 == self.lines.len() { 0 } else { at + 1 }
    }
}

/// After so many messages those go that have left.
const LEAVING: u64 = 16;

/// How many marks a line has beside the number of what has passed it by.
const MARKS: usize = 7;

#[cfg(test)]
mod tests {
    use rand_pcg::Pcg32;
    use rand_pcg::rand_core::Rng as _;
    use skylark_storage::LogId;

    use super::*;
    use crate::folds::duplicates::Sent;

    fn sent(number: u64, at: u64) -> SentMessage {
        SentMessage {
            fingerprint: Fingerprint::of(number),
            at,
            stored_at: 5,
            queue_offset: at / 100,
            queue: 3,
            wait_ms: 0,
        }
    }

    fn places(known: &Known, floor: u64) -> Vec<(u64, u64)> {
        let find = |number| Some((number, known.find(Fingerprint::of(number), floor)?.at));
        (0..9).filter_map(find).collect()
    }

    #[test]
    fn a_message_that_comes_again_is_found_where_it_lies_last() {
        let mut known = Known::default();
        for (at, number) in [(100, 1), (200, 2), (300, 1), (400, 3)] {
            known.push(sent(number, at), 0);
        }
        assert_eq!(places(&known, 0), [(1, 300), (2, 200), (3, 400)]);
        assert_eq!(places(&known, 300), [(1, 300), (3, 400)]);
        known.forget_below(300);
        assert_eq!(places(&known, 0), [(1, 300), (3, 400)], "its earlier entry takes nothing of it along");
        known.forget_below(301);
        known.push(sent(4, 500), 301);
        assert_eq!(places(&known, 0), [(3, 400), (4, 500)]);
    }

    #[test]
    fn what_has_left_does_not_stay_for_long() {
        let mut known = Known::default();
        for at in 0..1000 {
            known.push(sent(at, at), at.saturating_sub(50));
            assert!(known.messages.len() <= 50 + 1 + 16, "{} at {at}", known.messages.len());
        }
    }

    /// Against a list that is searched from its end. Fingerprints of `of` all belong to one line.
    #[test]
    fn what_is_known_is_what_a_list_holds() {
        let spread = |number: u64| {
            let sent = Sent { topic: "t", unique_key: &number.to_string(), body_crc: 1, body_bytes: 2 };
            Fingerprint::new(LogId::from_bytes([7; 16]), &sent)
        };
        for (of, distinct) in
            [(&spread as &dyn Fn(u64) -> Fingerprint, 700), (&spread, 40), (&Fingerprint::of, 40)]
        {
            let (mut known, mut list, mut floor) = (Known::default(), VecDeque::new(), 0);
            let mut random = Pcg32::new(11, distinct);
            for at in 1..20_000 {
                let message = SentMessage { fingerprint: of(random.next_u64() % distinct), ..sent(0, at) };
                // It holds more and less by turns.
                let held = 20 + (at / 2000 % 3) * distinct / 2;
                floor = floor.max(at.saturating_sub(held));
                known.push(message, floor);
                list.push_back(message);
                list.retain(|message| message.at >= floor);
                for _ in 0..3 {
                    let fingerprint = of(random.next_u64() % distinct);
                    let newest = list.iter().rev().find(|message| message.fingerprint == fingerprint);
                    assert_eq!(known.find(fingerprint, floor), newest.copied(), "at {at}");
                }
            }
        }
    }
}

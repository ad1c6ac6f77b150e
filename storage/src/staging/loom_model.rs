//! The concurrent core under loom: two appenders and the writer, in every order that the memory model allows.
//!
//! `RUSTFLAGS="--cfg loom" cargo test -p skylark-storage --release --lib loom`

use loom::sync::Arc;
use loom::thread;

use super::chunk::Pool;
use super::{Beginning, Closed, Constants, NewRecord, Staging, TailPolicy, Unit};
use crate::group::Chain;
use crate::log_id::LogId;
use crate::offset::{Epoch, PhysicalOffset};
use crate::record::{Kind, Record};
use crate::segment::{BLOCK_BYTES, SegmentFields};
use crate::sync::Mutex;

const LOG: LogId = LogId::from_bytes([7; 16]);
const START: PhysicalOffset = PhysicalOffset::new(2 * BLOCK_BYTES);
const CHUNK_BYTES: usize = 512;
/// Copied under the lock, and after it: see [`super::COPIED_UNDER_LOCK_BYTES_MAX`].
const SMALL_BYTES: usize = 8;
const LARGE_BYTES: usize = 40;

/// An empty group's place, in a segment that has begun.
pub(crate) fn staging() -> Staging {
    let segment = SegmentFields {
        log_id: LOG,
        base: PhysicalOffset::ZERO,
        segment_bytes: 1 << 20,
        created_at: 0,
        epoch: Epoch::new(1),
        epoch_start: PhysicalOffset::new(BLOCK_BYTES + 16),
    };
    let constants = Constants {
        log_id: LOG,
        segment_bytes: segment.segment_bytes,
        epoch: Epoch::new(1),
        previous_epoch: Epoch::ZERO,
        tail: TailPolicy::PackOrPad,
        pool: Pool::new(CHUNK_BYTES, 1),
    };
    let beginning = Beginning::Continues { segment, end: START, block: Vec::new() };
    Staging::new(constants, &beginning, START, 0)
}

fn append(staging: &Mutex<Staging>, bytes: usize) {
    let body = vec![u8::try_from(bytes).unwrap(); bytes];
    let records = [NewRecord { kind: Kind::new(16), head: &[], rest: &[&body] }];
    let unit = Unit::new(LOG.seed(), &records, u64::MAX).unwrap();
    let (_, copy) = staging.lock().append(&unit, 0, |_, _| ());
    if let Some(copy) = copy {
        copy.complete(&unit);
    }
}

/// Seals a group as the writer does and reads it back; how many records it holds, and the next group's chain.
fn seal(group: Closed, chain: Chain, durable_end: PhysicalOffset) -> (usize, Chain, PhysicalOffset) {
    let sealed = group.seal(LOG.seed(), chain, durable_end);
    let bytes = sealed.bytes();
    let (mut at, mut records) = (16, 0);
    while at < bytes.len() {
        let record = Record::parse(LOG.seed(), sealed.start.advance(at as u64), &bytes[at..]).unwrap();
        assert!(record.payload.iter().all(|&byte| usize::from(byte) == record.payload.len()));
        at += usize::try_from(record.header.stored_bytes()).unwrap();
        records += 1;
    }
    (records, sealed.chain, sealed.end)
}

/// Two appends on threads of their own, while the writer takes before, between and behind them, or while their
/// copies are open. `tamper` gets its hands on each group first.
fn model(tamper: fn(&mut Closed)) {
    loom::model(move || {
        let staging = Arc::new(Mutex::new(staging()));
        let appenders = [SMALL_BYTES, LARGE_BYTES].map(|bytes| {
            let staging = Arc::clone(&staging);
            thread::spawn(move || append(&staging, bytes))
        });
        let (mut records, mut chain, mut end) = (0, Chain::START, START);
        let mut take = || {
            let group = staging.lock().take();
            if let Some(mut group) = group {
                tamper(&mut group);
                let (more, next, group_end) = seal(group, chain, end);
                (records, chain, end) = (records + more, next, group_end);
            }
        };
        take();
        take();
        appenders.into_iter().for_each(|appender| appender.join().unwrap());
        take();
        assert_eq!(records, 2);
    });
}

#[test]
fn loom_a_sealed_group_is_whole_and_nobody_writes_to_it() {
    model(|_| ());
}

#[test]
#[should_panic]
fn loom_a_seal_that_does_not_wait_for_copies_is_noticed() {
    model(|group| group.group.copies = None);
}

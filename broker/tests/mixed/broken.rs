//! Histories in which one promise is broken, each shown to be noticed.

use std::panic::{AssertUnwindSafe, catch_unwind};

use super::client::{Client, Name};
use super::delays::{self, Delayer, Told, Waiting};
use super::filters::{BY_SQL, BY_TAG, Selector, Stretch};
use super::logs::{DEAD_LETTERS, DELAYED, Logs, PLAIN, POPPED, Queue, RETRIES, TRANSACTED, There};
use super::pops::{self, Item, Popper};
use super::resets::Moved;
use super::retries::{Back, Returner};
use super::sends::Sender;
use super::transactions::{self, Transaction, Transactor};

fn there(name: Name) -> There {
    There { name, stored_at: 1000, times: 0 }
}

fn logs(queue: Queue, there: &[There]) -> Logs {
    Logs::of(&[(queue, there.to_vec())])
}

/// Checks what a client was told against what is there: whether nothing is wrong, and nothing missing.
fn holds(client: &mut dyn Client, logs: &Logs) -> bool {
    catch_unwind(AssertUnwindSafe(|| client.check(logs))).is_ok() && client.missing(logs).is_none()
}

#[test]
fn a_plain_message_lost_swapped_repeated_or_made_up_is_noticed() {
    let check = |numbers: &[u64]| {
        let mut sender = Sender::new(0);
        sender.sent = 3;
        sender.acknowledged = vec![(0, 0, 0), (0, 1, 1)];
        let there: Vec<_> = numbers.iter().map(|number| there((0, *number))).collect();
        holds(&mut sender, &logs((PLAIN, 0), &there))
    };
    assert!(check(&[0, 1]) && check(&[0, 1, 2]));
    for broken in [&[][..], &[0], &[1, 0], &[0, 0, 1], &[0, 1, 1], &[0, 1, 3]] {
        assert!(!check(broken), "{broken:?} passed");
    }
}

#[test]
fn a_delayed_message_lost_repeated_early_or_recalled_is_noticed() {
    let check = |recalled: Told, found: &[u64]| {
        let mut delayer = Delayer::default();
        let waiting = Waiting { due_ms: 1000, sent: Told::Done, recalled, is_there: false };
        delayer.messages.insert(0, waiting);
        let found =
            found.iter().map(|stored_at| There { stored_at: *stored_at, ..there((delays::PRODUCER, 0)) });
        holds(&mut delayer, &logs((DELAYED, 0), &found.collect::<Vec<_>>()))
    };
    for (recalled, found, expected) in [
        (Told::Nothing, &[1000][..], true),
        (Told::Nothing, &[], false),
        (Told::Nothing, &[999], false),
        (Told::Nothing, &[1000, 1000], false),
        (Told::Refused, &[1000], true),
        (Told::Refused, &[], false),
        (Told::Unknown, &[], true),
        (Told::Unknown, &[1000], true),
        (Told::Done, &[], true),
        (Told::Done, &[1000], false),
    ] {
        assert_eq!(check(recalled, found), expected, "recalled {recalled:?}, found at {found:?}");
    }
}

#[test]
fn a_transaction_that_ends_otherwise_is_noticed() {
    let check = |number: u64, ends: u32, is_settled: bool, times: usize| {
        let mut transactor = Transactor::default();
        let transaction = Transaction { is_acknowledged: true, ends, is_settled, ..Transaction::default() };
        transactor.transactions.insert(number, transaction);
        transactor.settled.extend(is_settled.then_some(number));
        holds(&mut transactor, &logs((TRANSACTED, 0), &vec![there((transactions::PRODUCER, number)); times]))
    };
    let (committed, rolled_back) = (1, 3);
    assert!(transactions::commits(committed) && !transactions::commits(rolled_back));
    assert!(check(committed, 1, true, 1) && check(rolled_back, 1, true, 0));
    assert!(!check(committed, 1, true, 0), "committed, and lost");
    assert!(!check(committed, 1, true, 2), "committed, and there twice");
    assert!(!check(rolled_back, 1, true, 1), "rolled back, and there");
    assert!(!check(committed, 0, false, 1), "there before it was committed");
    assert!(!check(committed, 0, false, 0) && !check(rolled_back, 0, false, 0), "never asked about");
}

#[test]
fn a_message_sent_back_that_is_lost_repeated_or_early_is_noticed() {
    let name = (0, 13);
    let check = |queue: &'static str, times: i32, sure: u32, found: &[u64]| {
        let mut returner = Returner::default();
        returner.back.insert((name, times - 1), Back { sure, perhaps: 0, first_ms: 900, found: 0 });
        let found: Vec<_> =
            found.iter().map(|stored_at| There { name, stored_at: *stored_at, times }).collect();
        let logs = logs((queue, 0), &found);
        let holds = catch_unwind(AssertUnwindSafe(|| returner.check(&logs))).is_ok();
        // Nobody has consumed it here.
        holds && returner.missing(&logs).is_none_or(|missing| missing.starts_with("the messages"))
    };
    assert!(check(RETRIES, 1, 1, &[1000]) && check(DEAD_LETTERS, 3, 1, &[900]));
    assert!(!check(RETRIES, 1, 1, &[]) && !check(DEAD_LETTERS, 3, 1, &[]), "lost");
    assert!(!check(RETRIES, 1, 1, &[1000, 1000]) && !check(DEAD_LETTERS, 3, 1, &[900, 900]), "twice");
    assert!(!check(RETRIES, 1, 1, &[999]), "early");
    assert!(
        !check(RETRIES, 3, 1, &[2000]) && !check(DEAD_LETTERS, 2, 1, &[2000]),
        "tried too often, or not enough"
    );
    assert!(check(RETRIES, 2, 1, &[1100]) && !check(RETRIES, 2, 0, &[1100]), "nobody sent it back");
    let seen = |offset, name| {
        let mut returner = Returner::default();
        returner.seen.push((0, offset, name));
        catch_unwind(AssertUnwindSafe(|| returner.check(&logs((PLAIN, 0), &[there((0, 1))])))).is_ok()
    };
    assert!(seen(0, (0, 1)) && !seen(0, (0, 2)) && !seen(1, (0, 1)), "shown, and not there");
}

#[test]
fn a_popped_message_lost_shared_or_back_after_its_acknowledgement_is_noticed() {
    let popper = |acknowledged| {
        let mut popper = Popper::default();
        let item = Item { sent: Told::Done, place: Some((0, 0)), acknowledged, visible_at: 0 };
        popper.items.insert(0, item);
        popper
    };
    let logs = |there: &[There]| logs((POPPED, 0), there);
    let (own, foreign) = (there((pops::PRODUCER, 0)), there((0, 0)));
    assert!(
        holds(&mut popper(Told::Done), &logs(&[own])) && holds(&mut popper(Told::Unknown), &logs(&[own]))
    );
    assert!(!holds(&mut popper(Told::Nothing), &logs(&[own])), "never consumed");
    assert!(
        !holds(&mut popper(Told::Done), &logs(&[])) && !holds(&mut popper(Told::Done), &logs(&[foreign]))
    );
    let got = |acknowledged, times: &[u64]| {
        let mut popper = popper(acknowledged);
        catch_unwind(AssertUnwindSafe(|| times.iter().for_each(|at| popper.got(0, *at)))).is_ok()
    };
    assert!(got(Told::Nothing, &[1000, 1800]) && got(Told::Unknown, &[1000]));
    assert!(!got(Told::Nothing, &[1000, 1799]), "while it was invisible");
    assert!(!got(Told::Done, &[1000]), "after it was acknowledged");
}

#[test]
fn a_selection_with_too_much_or_too_little_is_noticed() {
    // Their tags are A, B and C, and the second's number is among those that SQL does not want.
    let all = [there((0, 0)), there((0, 22)), there((0, 2))];
    let check = |selected, offsets: &[u64], to: u64| {
        let mut selector = Selector::new(selected);
        let found =
            offsets.iter().map(|offset| (*offset, all[usize::try_from(*offset).unwrap()].name)).collect();
        selector.stretches.push(Stretch { queue: 0, from: 0, to, found });
        let logs = logs((PLAIN, 0), &all);
        catch_unwind(AssertUnwindSafe(|| selector.check(&logs))).is_ok()
    };
    assert!(check(BY_TAG, &[1, 2], 3) && check(BY_TAG, &[1], 2) && check(BY_SQL, &[0], 3));
    for broken in [&[][..], &[1], &[0, 1, 2], &[2, 1]] {
        assert!(!check(BY_TAG, broken, 3), "{broken:?} passed");
    }
    assert!(!check(BY_SQL, &[0, 1], 3) && !check(BY_SQL, &[], 3));
    assert!(!check(BY_TAG, &[1, 2], 4), "behind the end");
    assert!(Selector::new(BY_TAG).missing(&logs((PLAIN, 0), &all)).is_some());
}

#[test]
fn a_reset_that_is_forgotten_is_noticed() {
    let moved = || {
        let mut moved = Moved::default();
        moved.place(0).possible.extend([Some(5), Some(7)]);
        moved.was_reset(0, 7);
        // A commit that may count.
        moved.place(0).possible.insert(Some(9));
        moved.lost();
        moved
    };
    let found = |offset| catch_unwind(AssertUnwindSafe(|| moved().found(0, offset))).is_ok();
    assert!(found(Some(7)) && found(Some(9)));
    assert!(!found(Some(5)) && !found(None), "it was moved since");
    assert_eq!(moved().place(0).moved_to, Some(7));
    let pulled = |expected, to| catch_unwind(AssertUnwindSafe(|| moved().pulled(0, expected, to))).is_ok();
    assert!(pulled(Some(7), Some(7)) && pulled(None, None) && pulled(None, Some(9)));
    assert!(!pulled(Some(7), None) && !pulled(Some(7), Some(9)) && !pulled(None, Some(5)));
    assert!(Moved::default().missing(&Logs::default()).is_some(), "nobody looked");
}

use super::*;

fn at(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

fn limits(attributes: &[(&str, &str)]) -> Limits {
    Limits::of(&attributes.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect())
}

/// Sends a message after the other, and says how many went through until `until_ms`, one try a millisecond.
fn passed(quotas: &Quotas, owners: &[(Owner<'_>, Rates)], from_ms: u64, until_ms: u64, bytes: u64) -> u64 {
    let tries = (from_ms..until_ms).filter(|now_ms| {
        let Ok(allowance) = quotas.ask(Use::Send, owners, at(*now_ms)) else { return false };
        allowance.expect("a rate").take(at(*now_ms), 1, bytes);
        true
    });
    tries.count() as u64
}

#[test]
fn attributes_say_what_is_limited() {
    let all = limits(&[
        ("message.type", "FIFO"),
        ("skylark.duplicates", "suppress"),
        ("skylark.message.bytes", "1000"),
        ("skylark.read.bytes", "4"),
        ("skylark.read.messages", "3"),
        ("skylark.send.bytes", "2"),
        ("skylark.send.messages", "1"),
        ("z", "5"),
    ]);
    let rates =
        |messages, bytes| Rates { messages: NonZeroU64::new(messages), bytes: NonZeroU64::new(bytes) };
    assert_eq!(all, Limits { send: rates(1, 2), read: rates(3, 4), message_bytes: NonZeroU64::new(1000) });
    assert_eq!(limits(&[]), Limits::default());
    assert_eq!(limits(&[("message.type", "FIFO")]), Limits::default());
    assert!(Attribute::may_be("1") && !Attribute::may_be("0") && !Attribute::may_be("-1"));
}

#[test]
fn nothing_is_asked_of_those_without_rates() {
    let quotas = Quotas::default();
    let owners = [(Owner::Topic("t"), Rates::default()), (Owner::Group("g"), Rates::default())];
    assert!(quotas.ask(Use::Send, &owners, at(0)).unwrap().is_none());
    assert!(quotas.topics[0].read().of.is_empty());
}

#[test]
fn a_second_at_once_and_then_the_rate() {
    let quotas = Quotas::default();
    let owners = [(Owner::Topic("t"), limits(&[("skylark.send.messages", "100")]).send)];
    // 101: the last one makes the debt.
    assert_eq!(passed(&quotas, &owners, 0, 150, 1), 101 + 14);
    assert_eq!(passed(&quotas, &owners, 150, 10_150, 1), 1000);
    // What was not used is not saved up beyond a second.
    assert_eq!(passed(&quotas, &owners, 3_600_000, 3_600_150, 1), 101 + 14);
}

#[test]
fn bytes_count_and_what_is_large_is_paid_for_afterwards() {
    let quotas = Quotas::default();
    let owners = [(Owner::Group("g"), limits(&[("skylark.send.bytes", "1000")]).send)];
    let ask = |now_ms| quotas.ask(Use::Send, &owners, at(now_ms));
    ask(0).unwrap().unwrap().take(at(0), 1, 5000);
    let refused = ask(10).err().unwrap();
    assert_eq!(refused.code, ResponseCode::FLOW_CONTROL);
    assert_eq!(
        refused.remark,
        "group g is over its quota of 1000 bytes a second (skylark.send.bytes); there is room again in 3990 ms"
    );
    assert!(ask(3999).is_err());
    assert!(ask(4000).is_ok(), "it says when there is room again, and there is");
    assert_eq!((quotas.refused(Use::Send), quotas.refused(Use::Read)), (2, 0));
}

#[test]
fn more_than_a_minute_allows_is_too_much_for_good() {
    let rates = limits(&[("skylark.send.bytes", "1000"), ("skylark.send.messages", "1")]).send;
    assert_eq!(rates.too_small_for(60, 60_000), None);
    assert_eq!(rates.too_small_for(60, 60_001), Some((NonZeroU64::new(1000).unwrap(), "bytes")));
    assert_eq!(rates.too_small_for(61, 1), Some((NonZeroU64::MIN, "messages")));
    assert_eq!(Rates::default().too_small_for(u64::MAX, u64::MAX), None);
}

#[test]
fn leave_is_asked_for_again_by_what_has_waited() {
    let quotas = Quotas::default();
    let owners = [(Owner::Topic("t"), limits(&[("skylark.read.messages", "10")]).read)];
    let waited = quotas.ask(Use::Read, &owners, at(0)).unwrap().unwrap();
    quotas.ask(Use::Read, &owners, at(0)).unwrap().unwrap().take(at(0), 20, 0);
    assert_eq!(quotas.ask_again(Use::Read, &waited, at(0)).unwrap_err().code, ResponseCode::FLOW_CONTROL);
    assert!(quotas.ask_again(Use::Read, &waited, at(1000)).is_ok());
}

#[test]
fn topics_groups_reads_and_sends_have_accounts_of_their_own() {
    let quotas = Quotas::default();
    let one = limits(&[("skylark.send.messages", "1"), ("skylark.read.messages", "1")]);
    let (topic, group) = ((Owner::Topic("n"), one.send), (Owner::Group("n"), one.send));
    quotas.ask(Use::Send, &[topic], at(0)).unwrap().unwrap().take(at(0), 10, 0);
    assert!(quotas.ask(Use::Send, &[topic], at(0)).is_err());
    assert!(quotas.ask(Use::Send, &[group], at(0)).is_ok());
    assert!(quotas.ask(Use::Read, &[(Owner::Topic("n"), one.read)], at(0)).is_ok());
    // Whoever is refused for one of the two takes nothing of the other.
    for _ in 0..10 {
        assert!(quotas.ask(Use::Send, &[group, topic], at(0)).is_err());
    }
    assert!(quotas.ask(Use::Send, &[group], at(0)).is_ok());
}

#[test]
fn a_changed_rate_counts_from_then_on() {
    let quotas = Quotas::default();
    let owners = |rate: &str| [(Owner::Topic("t"), limits(&[("skylark.send.messages", rate)]).send)];
    let ask = |rate: &str, now_ms| quotas.ask(Use::Send, &owners(rate), at(now_ms));
    ask("10", 0).unwrap().unwrap().take(at(0), 500, 1);
    assert!(ask("10", 1000).is_err());
    // 490 are still owed.
    assert!(ask("200", 1000).is_err());
    assert!(ask("200", 2450).is_ok());
    assert_eq!(passed(&quotas, &owners("200"), 2450, 12_450, 1), 2000);
    let none = [(Owner::Topic("t"), Rates::default())];
    assert!(quotas.ask(Use::Send, &none, at(11_000)).unwrap().is_none());
}

#[test]
fn accounts_of_those_that_are_gone_go() {
    let quotas = Quotas::default();
    let rates = limits(&[("skylark.send.messages", "1")]).send;
    for number in 0..100_000_u64 {
        let name = format!("t{number}");
        let now = at(number);
        quotas.ask(Use::Send, &[(Owner::Topic(&name), rates)], now).unwrap().unwrap().take(now, 1, 0);
    }
    // Those of the last second, twice.
    assert!(quotas.topics[0].read().of.len() <= 2100, "{}", quotas.topics[0].read().of.len());
}

#[test]
fn many_at_once_exceed_the_rate_by_a_request_each() {
    let quotas = Quotas::default();
    let owners = [(Owner::Topic("t"), limits(&[("skylark.send.messages", "1000")]).send)];
    let passed: u64 = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..4)
            .map(|_| {
                scope.spawn(|| {
                    let tries = (0..50_000).filter(|_| match quotas.ask(Use::Send, &owners, at(0)) {
                        Ok(allowance) => {
                            allowance.expect("a rate").take(at(0), 1, 1);
                            true
                        }
                        Err(_) => false,
                    });
                    tries.count() as u64
                })
            })
            .collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).sum()
    });
    assert!((1001..=1004).contains(&passed), "{passed}");
}

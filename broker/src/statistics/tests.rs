use super::*;

const DAY: Duration = Duration::from_secs(86_400);

fn statistics() -> Statistics {
    Statistics::new(Duration::ZERO, 0, SystemTopics::new("C", "B", None, 18))
}

#[test]
fn what_is_counted_shows_at_once_and_by_topic_and_group() {
    let statistics = statistics();
    statistics.put("T", 3, 300);
    statistics.put("C", 1, 10);
    let reads = statistics.reads("T", "G").unwrap();
    statistics.got(Some(&reads), 2, 200, Duration::from_millis(7));
    statistics.sent_back("T", "G");
    statistics.got_nothing();
    let now = Duration::from_secs(2);
    let puts = statistics.topic("T").unwrap().puts.over(Window::Minute, now);
    assert_eq!((puts.growth, puts.rate(TopicMeter::MESSAGES)), ([1, 3, 300], 1.5));
    assert_eq!(reads.meter.over(Window::Day, now).growth, [1, 2, 200, 7, 1]);
    assert!(statistics.known_reads("T", "other").is_none() && statistics.topic("other").is_none());
    let totals = [
        &statistics.puts,
        &statistics.system_puts,
        &statistics.gets,
        &statistics.system_gets,
        &statistics.found,
        &statistics.missed,
    ];
    assert_eq!(totals.map(Counter::total), [4, 1, 2, 0, 1, 1]);
}

#[test]
fn pulls_are_remembered_by_queue() {
    let reads = statistics().reads("T", "G").unwrap();
    reads.pulled(3, 40);
    reads.pulled(1, 20);
    assert_eq!([0, 1, 2, 3, 4].map(|queue| reads.pull_offset(queue)), [0, 20, 0, 40, 0]);
}

#[test]
fn what_is_deleted_or_idle_for_a_day_is_forgotten() {
    let statistics = statistics();
    for topic in ["deleted", "idle", "busy"] {
        statistics.put(topic, 1, 1);
        for group in ["G", "gone"] {
            statistics.reads(topic, group).unwrap();
        }
    }
    statistics.forget_topic("deleted");
    statistics.forget_group("gone");
    assert!(statistics.topic("deleted").is_none() && statistics.known_reads("idle", "gone").is_none());
    assert_eq!(statistics.reads.load(Ordering::Relaxed), 2);
    let mut now = Duration::ZERO;
    while now < 2 * DAY {
        now += Duration::from_secs(600);
        statistics.put("busy", 1, 1);
        statistics.sample(now, 0);
    }
    assert!(statistics.topic("idle").is_none());
    assert_eq!(statistics.topic("busy").unwrap().puts.over(Window::Day, now).growth[0], 144);
    assert_eq!(statistics.reads.load(Ordering::Relaxed), 0);
}

#[test]
fn pairs_beyond_the_bound_are_not_counted_one_by_one() {
    let statistics = statistics();
    statistics.reads.store(READS_MAX, Ordering::Relaxed);
    assert!(statistics.reads("T", "G").is_none());
    statistics.got(None, 1, 1, Duration::ZERO);
    statistics.sent_back("T", "G");
    assert_eq!(statistics.gets.total(), 1);
}

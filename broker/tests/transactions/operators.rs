//! What operators see and do.

use skylark_broker::config::Settings;
use skylark_protocol::code::RequestCode;
use skylark_protocol::command::transactions::OpenTransactions;
use skylark_protocol::outgoing::Value;

use super::producer::*;
use crate::world::World;

fn listed(world: &mut World, from: u64, limit: i32, group: &str) -> OpenTransactions {
    let fields =
        [("from", from.into()), ("limit", Value::Number(limit.into())), ("producerGroup", group.into())];
    let listed = world.call(RequestCode::SKYLARK_LIST_TRANSACTIONS, &fields, b"");
    assert_eq!(listed.code, 0, "{}", listed.remark);
    OpenTransactions::decode(&listed.body).unwrap()
}

#[test]
fn open_transactions_are_listed_page_by_page() {
    let mut world = World::new(1, Settings::default());
    let halves: Vec<_> = (0..5).map(|number| prepare(&mut world, "t", &format!("K{number}"), "")).collect();
    let first = listed(&mut world, 0, 3, "");
    assert_eq!((first.open, first.transactions.len()), (5, 3));
    let shown = &first.transactions[1];
    assert_eq!((&*shown.transaction_id, &*shown.producer_group, &*shown.topic), ("K1", "PG", "t"));
    assert_eq!((shown.physical_offset, shown.queue_offset, shown.checks), (halves[1].physical_offset, 1, 0));
    assert_eq!(shown.message_id, world.pulled(HALF, 0)[1].id);
    let rest = listed(&mut world, first.next.unwrap(), 3, "PG");
    let keys: Vec<_> = rest.transactions.iter().map(|shown| &*shown.transaction_id).collect();
    assert_eq!((&*keys, rest.next), (&["K3", "K4"][..], None));
    assert!(listed(&mut world, 0, 3, "other").transactions.is_empty());
}

#[test]
fn what_was_given_up_is_opened_again() {
    let settings = Settings { transaction_checks_max: Some(1), ..Settings::default() };
    let mut world = World::new(1, settings);
    join(&mut world, "PG");
    let half = prepare(&mut world, "t", "K1", "");
    let resume = |world: &mut World, id: &str| {
        world.call(RequestCode::RESUME_CHECK_HALF_MESSAGE, &[("msgId", id.into())], b"").code
    };
    assert_eq!(after(&mut world, 6_100).len(), 1);
    let id = world.pulled(HALF, 0)[0].id.clone();
    assert_eq!(resume(&mut world, &id), 0, "its checks begin again");
    assert_eq!(after(&mut world, 6_100).len(), 1);
    assert!(after(&mut world, 30_100).is_empty());
    assert_eq!(answer(&mut world, &half, COMMIT).code, 1);
    let given_up = world.pulled(GIVEN_UP, 0).remove(0);
    assert_eq!(resume(&mut world, "nonsense"), 1);
    let plain = world.send("t", "", b"x");
    assert_eq!(resume(&mut world, &plain.fields["msgId"]), 1, "only what was given up");
    assert_eq!(resume(&mut world, &given_up.id), 0);
    let questions = after(&mut world, 6_100);
    assert_eq!(questions.len(), 1);
    let again = asked(&questions[0]);
    assert_ne!(again, half);
    assert_eq!(answer(&mut world, &again, COMMIT).code, 0);
    assert_eq!(consumed(&mut world, "t"), ["K1"]);
}

//! How far groups are behind, and why: 60020, 60021.

use std::collections::BTreeSet;

use skylark_protocol::code::ResponseCode;
use skylark_protocol::command::lag::{LagPage, ListLag, QueueLag};

use crate::broker::Broker;
use crate::context::{Answers, Handled, Request};
use crate::handlers::caught_up;
use crate::watchdog::rows::Group;

/// Rows of a page, and those of the topic that goes beyond that.
const PAGE: usize = 2000;
/// What an answer counts as until it is there.
const PAGE_BYTES: u64 = 1 << 20;

/// 60020: how far groups are behind. Names are many, so a reader thread does it.
pub fn list(broker: &Broker, request: &Request<'_, '_>) -> Handled {
    if let Some(wait) = caught_up(broker) {
        return Ok(wait);
    }
    let asked = ListLag::decode(request.header)?;
    let owned = |text: Option<&str>| text.filter(|text| !text.is_empty()).map(str::to_owned);
    let (only_group, only_topic) = (owned(asked.group), owned(asked.topic));
    let from_group = owned(asked.from_group).unwrap_or_default();
    let from_topic = owned(asked.from_topic).unwrap_or_default();
    let (stuck, reply) = (asked.stuck, request.reply);
    broker.readers.submit(request.connection, reply, PAGE_BYTES, move |broker, out| {
        let mut page = LagPage::default();
        let groups: BTreeSet<String> = {
            let catalog = broker.catalog.read();
            let names = catalog.groups.iter().map(|(name, _)| name);
            let names = names.filter(|name| only_group.as_deref().is_none_or(|only| only == *name));
            names.filter(|name| **name >= *from_group).map(str::to_owned).collect()
        };
        for name in groups {
            let Some(group) = Group::of(broker, &name) else { continue };
            for topic in group.topics(broker) {
                let is_asked = only_topic.as_deref().is_none_or(|only| only == topic);
                if !is_asked || (name == from_group && topic < from_topic) {
                    continue;
                }
                if page.rows.len() >= PAGE {
                    (page.next_group, page.next_topic) = (Some(name), Some(topic));
                    reply.respond(out, ResponseCode::SUCCESS, None, &[], page.encode().into());
                    return Ok(());
                }
                page.rows.extend(rows(broker, &group, &name, &topic, stuck));
            }
        }
        reply.respond(out, ResponseCode::SUCCESS, None, &[], page.encode().into());
        Ok(())
    })
}

/// The rows of a group's topic; with `stuck`, those of stuck queues.
fn rows(broker: &Broker, group: &Group<'_>, name: &str, topic: &str, stuck: bool) -> Vec<QueueLag> {
    let now = broker.clock.monotonic();
    let rows = group.rows(broker, topic).into_iter();
    let rows = rows.filter(|row| !stuck || broker.watchdog.is_stuck(broker, row));
    rows.map(|row| QueueLag {
        group: name.to_owned(),
        topic: topic.to_owned(),
        queue: row.queue,
        committed: row.committed,
        end: row.end,
        lag: row.lag,
        owner: group.owner(broker, topic, &row),
        asked_ms_ago: row
            .asked
            .last
            .map(|(at, _)| u64::try_from(now.saturating_sub(at).as_millis()).unwrap_or(u64::MAX)),
        blocked_because: group.blocked(broker, topic, &row).map(|blocked| blocked.to_string()),
    })
    .collect()
}

/// 60021: what the watchdog has noticed.
pub fn events(broker: &Broker, request: &Request<'_, '_>, answers: &mut Answers<'_>) -> Handled {
    answers.body(request.reply, broker.watchdog.events().encode())
}

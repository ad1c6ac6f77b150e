//! What the index holds of a queue: 321.

use skylark_index::{Answer, Entry, QueueId, SealedError};
use skylark_protocol::code::ResponseCode;
use skylark_protocol::command::query::{ConsumeQueueEntries, ConsumeQueueEntry, ConsumeQueueRequest};
use skylark_storage::record::RECORD_HEADER_BYTES;

use crate::broker::Broker;
use crate::context::{Answers, Handled, Refusal, Request};
use crate::handlers::caught_up;

/// Entries in an answer, at most.
const ENTRIES_MAX: usize = 1024;
/// What one of them may come to.
const ENTRY_BYTES: u64 = 128;

/// 321: entries of a queue, and what a group selects of it.
pub fn entries(broker: &Broker, request: &Request<'_, '_>, answers: &mut Answers<'_>) -> Handled {
    if let Some(wait) = caught_up(broker) {
        return Ok(wait);
    }
    let asked = ConsumeQueueRequest::decode(request.header)?;
    let number = usize::try_from(asked.queue_id).ok();
    let found = {
        let catalog = broker.catalog.read();
        number.and_then(|number| catalog.queues(asked.topic)?.get(number).copied())
    };
    let Some(queue) = found else {
        let remark = format!("{}@{} is not exist!", asked.queue_id, asked.topic);
        return Err(Refusal::new(ResponseCode::SYSTEM_ERROR, remark));
    };
    let range = broker.index.read().range(queue);
    let mut answer = ConsumeQueueEntries {
        max_queue_index: range.end,
        min_queue_index: range.start,
        ..ConsumeQueueEntries::default()
    };
    if let Some(group) = asked.consumer_group {
        let found = broker.membership.subscription(group, asked.topic).ok().flatten();
        answer.subscription_data = found.map(|(subscription, _)| subscription.stated.clone());
        if answer.subscription_data.is_none() {
            answer.filter_data = Some(format!("{group}@{} is not online!", asked.topic));
        }
    }
    let count = usize::try_from(asked.count).unwrap_or(0).min(ENTRIES_MAX);
    // As with RocketMQ, an offset below the minimum gives nothing rather than the first that there are.
    let Ok(from) = u64::try_from(asked.index) else { return answers.body(request.reply, answer.encode()) };
    let known = match broker.index.read().entries(queue, from, count) {
        Answer::Known(entries) => Some(entries.map(wire).collect()),
        Answer::Sealed(_) => None,
    };
    if let Some(known) = known {
        answer.queue_data = known;
        return answers.body(request.reply, answer.encode());
    }
    let reply = request.reply;
    let bytes = count as u64 * ENTRY_BYTES;
    broker.readers.submit(request.connection, reply, bytes, move |broker, out| {
        let entries = read(broker, queue, from, count).map_err(|error| broker.unreadable(&error))?;
        answer.queue_data = entries.into_iter().map(wire).collect();
        reply.respond(out, ResponseCode::SUCCESS, None, &[], answer.encode().into());
        Ok(())
    })
}

/// Entries from files, and from memory where those end. May wait for the disk.
fn read(broker: &Broker, queue: QueueId, from: u64, count: usize) -> Result<Vec<Entry>, SealedError> {
    let mut found: Vec<Entry> = Vec::new();
    while found.len() < count {
        let (next, left) = (from + found.len() as u64, count - found.len());
        let view = match broker.index.read().entries(queue, next, left) {
            Answer::Known(entries) => {
                found.extend(entries);
                break;
            }
            Answer::Sealed(view) => view,
        };
        let sealed = view.entries(next, left)?;
        if sealed.is_empty() {
            break;
        }
        found.extend(sealed);
    }
    Ok(found)
}

/// An entry as the tools show it: they take the message's length, without the record's header.
fn wire(entry: Entry) -> ConsumeQueueEntry {
    ConsumeQueueEntry {
        physic_offset: entry.physical_offset.get(),
        physic_size: entry.record_bytes.saturating_sub(u32::try_from(RECORD_HEADER_BYTES).unwrap_or(0)),
        tags_code: entry.tag_hash.into(),
        ..ConsumeQueueEntry::default()
    }
}

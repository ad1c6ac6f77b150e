//! `skylark dlq`: messages that groups gave up.

use std::io::Write;

use clap::Subcommand;
use skylark_protocol::code::RequestCode;
use skylark_protocol::command::dead_letters::{
    DeadLetterQueue, DeadLetters, ListDeadLetters, SettleDeadLetters, SettledDeadLetters,
};
use skylark_protocol::command::query::{ConsumeQueueEntries, ConsumeQueueRequest, QueryMessage, ViewMessage};
use skylark_protocol::message::{OffsetMessageId, StoredMessage, properties};

use super::Failure;
use super::operator::{self, Operator, excerpt, utc};

/// What `skylark dlq` takes.
#[derive(clap::Args)]
pub(super) struct Args {
    /// The broker
    #[arg(long, global = true, default_value = "127.0.0.1:10911", value_name = "HOST:PORT")]
    broker: String,

    #[command(subcommand)]
    action: Action,
}

#[derive(Subcommand)]
enum Action {
    /// Print the groups that have dead letters: group, how many wait, when the first and the last of them was given up
    List {
        /// This group only
        #[arg(long)]
        group: Option<String>,

        /// A JSON object a line, for each queue of a dead letter topic
        #[arg(long)]
        json: bool,
    },
    /// Print dead letters, oldest first: message id, when it was given up, first topic, how often it was consumed, the
    /// client's id of the message, and how its body begins
    Peek {
        /// Whose
        group: String,

        /// So many at most
        #[arg(long, default_value_t = 20, value_name = "COUNT")]
        limit: u64,

        /// A JSON object a line
        #[arg(long)]
        json: bool,
    },
    /// Send dead letters once more to the topic they were first sent to, each one once, however often this is run
    ///
    /// They start anew: no retries are counted. Every group that consumes the topic gets them. What cannot be sent stays,
    /// and the reason is told.
    Resend {
        /// Whose
        group: String,

        #[command(flatten)]
        which: Which,

        /// Only to the group that gave them up, by way of its retry topic
        #[arg(long)]
        to_group: bool,
    },
    /// Give dead letters up for good: they are listed, and sent again, no more
    Purge {
        /// Whose
        group: String,

        #[command(flatten)]
        which: Which,

        /// Do it; without this only the number is told
        #[arg(long)]
        yes: bool,
    },
}

/// Which dead letters of a group.
#[derive(clap::Args)]
#[group(required = true, multiple = false)]
struct Which {
    /// The one with this id, as `peek` prints it, or the client's id of the message. May be repeated
    #[arg(long = "id", value_name = "ID")]
    ids: Vec<String>,

    /// All that there are when the command begins
    #[arg(long)]
    all: bool,
}

/// Dead letters that one request sends again, or gives up.
const PAGE: i32 = 1000;
/// Entries of a queue that one request shows.
const ENTRIES: u64 = 200;
/// Characters of a body that are shown.
const EXCERPT_CHARS: usize = 60;

pub(super) fn run(args: &Args) -> Result<(), Failure> {
    operator::run(&args.broker, async |operator: Operator<'_>| match &args.action {
        Action::List { group, json } => list(&operator, group.as_deref(), *json).await,
        Action::Peek { group, limit, json } => peek(&operator, group, *limit, *json).await,
        Action::Resend { group, which, to_group } => resend(&operator, group, which, *to_group).await,
        Action::Purge { group, which, yes } => purge(&operator, group, which, *yes).await,
    })
}

async fn queues(operator: &Operator<'_>, group: Option<&str>) -> Result<Vec<DeadLetterQueue>, Failure> {
    let asked = ListDeadLetters { group };
    let body = operator.ask(RequestCode::SKYLARK_LIST_DEAD_LETTERS, &asked.fields()).await?;
    Ok(DeadLetters::decode(&body)?.queues)
}

async fn queues_of(operator: &Operator<'_>, group: &str) -> Result<Vec<DeadLetterQueue>, Failure> {
    let queues = queues(operator, Some(group)).await?;
    if queues.is_empty() {
        return Err(format!("group {group} has no dead letter topic here").into());
    }
    Ok(queues)
}

async fn list(operator: &Operator<'_>, group: Option<&str>, json: bool) -> Result<(), Failure> {
    let queues = queues(operator, group).await?;
    let mut out = std::io::stdout().lock();
    if json {
        for queue in &queues {
            writeln!(out, "{}", serde_json::to_string(queue)?)?;
        }
        return Ok(());
    }
    // A dead letter topic has one queue, unless an operator has given it more.
    for of_group in queues.chunk_by(|one, other| one.group == other.group) {
        let waiting: u64 = of_group.iter().map(|queue| queue.waiting).sum();
        let time = |ms: Option<i64>| ms.map_or_else(|| "-".to_owned(), utc);
        let oldest = time(of_group.iter().filter_map(|queue| queue.oldest).min());
        let newest = time(of_group.iter().filter_map(|queue| queue.newest).max());
        writeln!(out, "{} {waiting} {oldest} {newest}", of_group[0].group)?;
    }
    Ok(())
}

async fn peek(operator: &Operator<'_>, group: &str, limit: u64, json: bool) -> Result<(), Failure> {
    let mut left = limit;
    for queue in queues_of(operator, group).await? {
        for &(start, end) in &queue.stretches {
            let mut next = start;
            while next < end && left > 0 {
                let count = (end - next).min(left).min(ENTRIES);
                let shown = entries(operator, &queue, next, count).await?;
                if shown.is_empty() {
                    break;
                }
                for (number, at) in (next..).zip(shown.iter().copied()) {
                    show(operator, at, number, json).await?;
                }
                next += shown.len() as u64;
                left -= shown.len() as u64;
            }
        }
    }
    Ok(())
}

/// Where the messages of a queue lie, whatever the topic's permissions and without a trace of the look.
async fn entries(
    operator: &Operator<'_>,
    queue: &DeadLetterQueue,
    from: u64,
    count: u64,
) -> Result<Vec<u64>, Failure> {
    let asked = ConsumeQueueRequest {
        topic: &queue.topic,
        queue_id: i32::try_from(queue.queue_id)?,
        index: i64::try_from(from)?,
        count: i32::try_from(count)?,
        consumer_group: None,
    };
    let body = operator.ask(RequestCode::QUERY_CONSUME_QUEUE, &asked.fields()).await?;
    let entries = ConsumeQueueEntries::decode(&body)?.queue_data;
    Ok(entries.into_iter().map(|entry| entry.physic_offset).collect())
}

async fn show(operator: &Operator<'_>, at: u64, number: u64, json: bool) -> Result<(), Failure> {
    let asked = ViewMessage { topic: None, physical_offset: at };
    let Some(body) = operator.find(RequestCode::VIEW_MESSAGE_BY_ID, &asked.fields()).await? else {
        eprintln!("the dead letter with offset {number} cannot be read");
        return Ok(());
    };
    let (message, _) = StoredMessage::parse(&body)?;
    let known = message.properties();
    let text = |name| known.get(name).unwrap_or("-");
    let id = message.offset_message_id().to_string();
    let (origin, key) = (text(properties::RETRY_TOPIC), text(properties::UNIQ_KEY));
    let stored_at = i64::try_from(message.store_timestamp).unwrap_or(i64::MAX);
    let begins = excerpt(message.body, EXCERPT_CHARS);
    let mut out = std::io::stdout().lock();
    if json {
        let shown = serde_json::json!({
            "messageId": id,
            "queueId": message.queue_id,
            "queueOffset": message.queue_offset,
            "storeTimestamp": stored_at,
            "topic": known.get(properties::RETRY_TOPIC),
            "originMessageId": known.get(properties::ORIGIN_MESSAGE_ID),
            "reconsumeTimes": message.reconsume_times,
            "uniqueKey": known.get(properties::UNIQ_KEY),
            "tags": known.get(properties::TAGS),
            "keys": known.get(properties::KEYS),
            "bodyBytes": message.body.len(),
            "body": begins,
        });
        writeln!(out, "{shown}")?;
    } else {
        let (time, times) = (utc(stored_at), message.reconsume_times);
        writeln!(out, "{id} {time} {origin} {times} {key} {begins}")?;
    }
    Ok(())
}

/// A stretch of a queue of a group's dead letter topic.
struct Stretch {
    queue_id: i32,
    begin: u64,
    end: u64,
}

/// Where those dead letters are that are asked for.
async fn sought(operator: &Operator<'_>, group: &str, which: &Which) -> Result<Vec<Stretch>, Failure> {
    let queues = queues_of(operator, group).await?;
    if which.all {
        let whole = |queue: &DeadLetterQueue| -> Result<Stretch, Failure> {
            let (begin, end) = (queue.min_offset, queue.max_offset);
            Ok(Stretch { queue_id: i32::try_from(queue.queue_id)?, begin, end })
        };
        return queues.iter().map(whole).collect();
    }
    let topic = &queues[0].topic;
    let mut stretches = Vec::new();
    for id in &which.ids {
        let letters = letters_by(operator, topic, id).await?;
        if letters.is_empty() {
            return Err(format!("group {group} has no dead letter {id}").into());
        }
        stretches.extend(letters);
    }
    Ok(stretches)
}

/// The dead letters with an id: by the client's id of the message, else by the offset message id. Both may look alike.
async fn letters_by(operator: &Operator<'_>, topic: &str, id: &str) -> Result<Vec<Stretch>, Failure> {
    let by_key = QueryMessage {
        topic,
        key: id,
        max_messages: 32,
        begin_timestamp: 0,
        end_timestamp: i64::MAX,
        unique: true,
    };
    let mut found = operator.find(RequestCode::QUERY_MESSAGE, &by_key.fields()).await?;
    if found.is_none()
        && let Ok(OffsetMessageId { physical_offset, .. }) = id.parse()
    {
        let by_place = ViewMessage { topic: None, physical_offset };
        found = operator.find(RequestCode::VIEW_MESSAGE_BY_ID, &by_place.fields()).await?;
    }
    let mut stretches = Vec::new();
    for message in StoredMessage::parse_all(&found.unwrap_or_default()) {
        let message = message?;
        if message.topic == topic {
            let (begin, end) = (message.queue_offset, message.queue_offset + 1);
            stretches.push(Stretch { queue_id: i32::try_from(message.queue_id)?, begin, end });
        }
    }
    Ok(stretches)
}

async fn settle(
    operator: &Operator<'_>,
    code: RequestCode,
    group: &str,
    stretch: &Stretch,
    to_group: bool,
) -> Result<SettledDeadLetters, Failure> {
    let &Stretch { queue_id, begin, end } = stretch;
    let asked = SettleDeadLetters { group, queue_id, begin, end, limit: PAGE, to_group };
    Ok(SettledDeadLetters::decode(&operator.ask(code, &asked.fields()).await?)?)
}

async fn resend(operator: &Operator<'_>, group: &str, which: &Which, to_group: bool) -> Result<(), Failure> {
    let (mut sent, mut failed) = (0, 0);
    for mut stretch in sought(operator, group, which).await? {
        let mut more = true;
        while more {
            let code = RequestCode::SKYLARK_RESEND_DEAD_LETTERS;
            let settled = settle(operator, code, group, &stretch, to_group).await?;
            let mut out = std::io::stdout().lock();
            for letter in &settled.settled {
                writeln!(out, "{} {}", letter.message_id, letter.topic)?;
            }
            for letter in &settled.failed {
                eprintln!("the dead letter with offset {} stays: {}", letter.queue_offset, letter.reason);
            }
            sent += settled.settled.len();
            failed += settled.failed.len();
            more = settled.next.is_some();
            stretch.begin = settled.next.unwrap_or(stretch.end);
        }
    }
    eprintln!("{sent} dead letters were sent again");
    if failed > 0 {
        return Err(format!("{failed} dead letters could not be sent again, and stay").into());
    }
    Ok(())
}

async fn purge(operator: &Operator<'_>, group: &str, which: &Which, yes: bool) -> Result<(), Failure> {
    let stretches = sought(operator, group, which).await?;
    if !yes {
        let waiting: u64 = queues_of(operator, group).await?.iter().map(|queue| queue.waiting).sum();
        let count = if which.all { waiting } else { stretches.len() as u64 };
        return Err(format!("{count} dead letters would be given up for good; say --yes to do it").into());
    }
    let mut purged = 0;
    for mut stretch in stretches {
        let mut more = true;
        while more {
            let code = RequestCode::SKYLARK_PURGE_DEAD_LETTERS;
            let settled = settle(operator, code, group, &stretch, false).await?;
            purged += settled.settled.len();
            more = settled.next.is_some();
            stretch.begin = settled.next.unwrap_or(stretch.end);
        }
    }
    eprintln!("{purged} dead letters were given up for good");
    Ok(())
}

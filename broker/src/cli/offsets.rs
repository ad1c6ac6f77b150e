//! `skylark offsets`: who moved which group where, and when.

use std::io::Write;

use clap::Subcommand;
use skylark_protocol::code::RequestCode;
use skylark_protocol::command::audit::{AuditOffsets, OffsetTrail, OffsetsMoved, QueueMoved};

use super::Failure;
use super::operator::{self, Operator, utc};

/// What `skylark offsets` takes.
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
    /// Print what operators have moved, oldest first, a line for each queue: time, request, address, client id, group,
    /// topic, queue, old offset, new offset. `-` stands for none
    ///
    /// Requests are 222, a reset; 314, a clone; 15, an offset that somebody set who is no member of the group; 207 and 215,
    /// the deletion of a group or topic; 60011 and 60012, dead letters that were sent again or purged: there the offsets
    /// are those of the first one, and behind the last.
    Audit {
        /// Moves of this group only
        #[arg(long)]
        group: Option<String>,

        /// Moves in this topic only
        #[arg(long)]
        topic: Option<String>,

        /// A JSON object a line, for each move of a group in a topic
        #[arg(long)]
        json: bool,
    },
}

/// Moves in an answer.
const PAGE: i32 = 500;

pub(super) fn run(args: &Args) -> Result<(), Failure> {
    let Action::Audit { group, topic, json } = &args.action;
    operator::run(&args.broker, async |operator: Operator<'_>| {
        let mut from = Some(0);
        while let Some(number) = from.take() {
            let asked =
                AuditOffsets { from: number, limit: PAGE, group: group.as_deref(), topic: topic.as_deref() };
            let body = operator.ask(RequestCode::SKYLARK_AUDIT_OFFSETS, &asked.fields()).await?;
            let page = OffsetTrail::decode(&body)?;
            let mut out = std::io::stdout().lock();
            for moved in &page.moves {
                if *json {
                    writeln!(out, "{}", serde_json::to_string(moved)?)?;
                } else {
                    print(&mut out, moved)?;
                }
            }
            from = page.next;
        }
        Ok(())
    })
}

fn print(out: &mut impl Write, moved: &OffsetsMoved) -> Result<(), Failure> {
    let OffsetsMoved { timestamp, code, address, client_id, group, topic, queues, .. } = moved;
    let client = client_id.as_deref().unwrap_or("-");
    let offset = |offset: Option<u64>| offset.map_or_else(|| "-".to_owned(), |offset| offset.to_string());
    for QueueMoved { queue_id, from, to } in queues {
        let (time, from, to) = (utc(*timestamp), offset(*from), offset(*to));
        writeln!(out, "{time} {code} {address} {client} {group} {topic} {queue_id} {from} {to}")?;
    }
    Ok(())
}

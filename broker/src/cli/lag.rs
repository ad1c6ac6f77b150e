//! `skylark lag`: how far consumer groups are behind, who is at each queue, and what is in the way.

use std::io::Write;

use skylark_protocol::code::RequestCode;
use skylark_protocol::command::lag::{LagEvent, LagEvents, LagPage, ListLag, QueueLag};

use super::Failure;
use super::operator::{self, Operator};

/// What `skylark lag` takes.
#[derive(clap::Args)]
pub(super) struct Args {
    /// The broker
    #[arg(long, default_value = "127.0.0.1:10911", value_name = "HOST:PORT")]
    broker: String,

    /// This group only
    #[arg(long)]
    group: Option<String>,

    /// This topic only
    #[arg(long)]
    topic: Option<String>,

    /// Only queues with messages that nobody has asked for in a minute
    #[arg(long)]
    stuck: bool,

    /// When queues got stuck, and when they moved again, instead of how they are
    #[arg(long, conflicts_with_all = ["group", "topic", "stuck"])]
    events: bool,

    /// One JSON object a line
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: &Args) -> Result<(), Failure> {
    operator::run(&args.broker, async |operator| {
        if args.events { events(&operator, args).await } else { rows(&operator, args).await }
    })
}

async fn rows(operator: &Operator<'_>, args: &Args) -> Result<(), Failure> {
    let (mut from_group, mut from_topic, mut is_first) = (None::<String>, None::<String>, true);
    loop {
        let asked = ListLag {
            group: args.group.as_deref(),
            topic: args.topic.as_deref(),
            stuck: args.stuck,
            from_group: from_group.as_deref(),
            from_topic: from_topic.as_deref(),
        };
        let page = LagPage::decode(&operator.ask(RequestCode::SKYLARK_LIST_LAG, &asked.fields()).await?)?;
        let mut out = std::io::stdout().lock();
        if is_first && !args.json {
            writeln!(out, "GROUP TOPIC QUEUE COMMITTED END LAG OWNER ASKED BLOCKED-BECAUSE")?;
            is_first = false;
        }
        for row in &page.rows {
            if args.json {
                writeln!(out, "{}", serde_json::to_string(row)?)?;
            } else {
                writeln!(out, "{}", line(row))?;
            }
        }
        if page.next_group.is_none() {
            return Ok(());
        }
        (from_group, from_topic) = (page.next_group, page.next_topic);
    }
}

fn line(row: &QueueLag) -> String {
    let QueueLag { group, topic, queue, end, lag, .. } = row;
    let committed = row.committed.map_or("-".to_owned(), |offset| offset.to_string());
    let owner = row.owner.as_deref().unwrap_or("-");
    let asked =
        row.asked_ms_ago.map_or("never".to_owned(), |ms| format!("{}.{}s", ms / 1000, ms % 1000 / 100));
    let because = row.blocked_because.as_deref().unwrap_or("-");
    format!("{group} {topic} {queue} {committed} {end} {lag} {owner} {asked} {because}")
}

async fn events(operator: &Operator<'_>, args: &Args) -> Result<(), Failure> {
    let found = LagEvents::decode(&operator.ask(RequestCode::SKYLARK_LIST_LAG_EVENTS, &[]).await?)?;
    let mut out = std::io::stdout().lock();
    for event in &found.events {
        if args.json {
            writeln!(out, "{}", serde_json::to_string(event)?)?;
            continue;
        }
        let LagEvent { at, group, topic, queue, lag, blocked_because } = event;
        match blocked_because {
            Some(because) => writeln!(out, "{at} stuck {group} {topic} {queue} {lag} {because}")?,
            None => writeln!(out, "{at} moves {group} {topic} {queue}")?,
        }
    }
    eprintln!("{} queues are stuck; {} events since the broker started", found.stuck, found.total);
    Ok(())
}

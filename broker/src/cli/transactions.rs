//! `skylark transactions`: looks at transactions that are open, and ends those that are stuck.

use std::io::Write;

use clap::Subcommand;
use skylark_protocol::code::RequestCode;
use skylark_protocol::command::transactions::{
    EndTransaction, ListTransactions, OpenTransaction, OpenTransactions, ResumeCheck,
};
use skylark_protocol::message::OffsetMessageId;

use super::Failure;
use super::operator::{self, Operator};

/// What `skylark transactions` takes.
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
    /// Print open transactions, oldest first: message id, producer group, topic, checks so far, transaction id
    List {
        /// Those of this producer group only
        #[arg(long)]
        group: Option<String>,

        /// So many at most
        #[arg(long, default_value_t = 100, value_name = "COUNT")]
        limit: usize,
    },
    /// Let consumers have the message
    Commit {
        /// As `list` prints it
        message_id: OffsetMessageId,
    },
    /// Let nobody have the message
    Rollback {
        /// As `list` prints it
        message_id: OffsetMessageId,
    },
    /// Ask producers anew, as if they never had been; opens again what was given up
    Resume {
        /// As `list` prints it, or of a message of TRANS_CHECK_MAX_TIME_TOPIC
        message_id: OffsetMessageId,
    },
}

/// Transactions in an answer.
const PAGE: usize = 500;

pub(super) fn run(args: &Args) -> Result<(), Failure> {
    operator::run(&args.broker, async |operator| match &args.action {
        Action::List { group, limit } => list(&operator, group.as_deref(), *limit).await,
        Action::Commit { message_id } => end(&operator, message_id, EndTransaction::COMMIT).await,
        Action::Rollback { message_id } => end(&operator, message_id, EndTransaction::ROLLBACK).await,
        Action::Resume { message_id } => resume(&operator, message_id).await,
    })
}

async fn page(
    operator: &Operator<'_>,
    from: u64,
    limit: usize,
    group: Option<&str>,
) -> Result<OpenTransactions, Failure> {
    let limit = i32::try_from(limit.min(PAGE)).unwrap_or(i32::MAX);
    let asked = ListTransactions { from, limit, producer_group: group };
    let answer = operator.ask(RequestCode::SKYLARK_LIST_TRANSACTIONS, &asked.fields()).await?;
    Ok(OpenTransactions::decode(&answer)?)
}

async fn list(operator: &Operator<'_>, group: Option<&str>, limit: usize) -> Result<(), Failure> {
    let (mut from, mut left) = (Some(0), limit);
    let mut open = 0;
    while let Some(place) = from.take().filter(|_| left > 0) {
        let page = page(operator, place, left, group).await?;
        let mut out = std::io::stdout().lock();
        for shown in &page.transactions {
            let OpenTransaction { message_id, producer_group, topic, checks, transaction_id, .. } = shown;
            writeln!(out, "{message_id} {producer_group} {topic} {checks} {transaction_id}")?;
        }
        left = left.saturating_sub(page.transactions.len());
        (from, open) = (page.next, page.open);
    }
    eprintln!("{open} transactions are open");
    Ok(())
}

async fn end(operator: &Operator<'_>, id: &OffsetMessageId, outcome: i32) -> Result<(), Failure> {
    let page = page(operator, id.physical_offset, 1, None).await?;
    let found = page.transactions.into_iter().find(|open| open.message_id == id.to_string());
    let Some(open) = found else { return Err(format!("no transaction {id} is open").into()) };
    let ended = EndTransaction {
        topic: Some(&open.topic),
        producer_group: &open.producer_group,
        queue_offset: open.queue_offset,
        physical_offset: open.physical_offset,
        outcome,
        from_check: true,
        message_id: Some(&open.transaction_id),
        transaction_id: Some(&open.transaction_id),
    };
    operator.ask(RequestCode::END_TRANSACTION, &ended.fields()).await?;
    Ok(())
}

async fn resume(operator: &Operator<'_>, id: &OffsetMessageId) -> Result<(), Failure> {
    let id = id.to_string();
    let asked = ResumeCheck { topic: None, message_id: &id };
    operator.ask(RequestCode::RESUME_CHECK_HALF_MESSAGE, &asked.fields()).await?;
    Ok(())
}

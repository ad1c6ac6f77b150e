//! `skylark bench`: load for any RocketMQ-compatible broker, and how it bears it.
//!
//! A closed loop: every connection keeps as many requests under way as it is told, and asks the next as soon as
//! one is answered. The generator's own work is kept small, because it usually runs on the broker's machine:
//! requests are made once and only what differs is patched, answers are read by their code and number alone.
//!
//! | to change…                           | open      |
//! |--------------------------------------|-----------|
//! | what is sent, and how it is answered | `produce` |
//! | what is pulled                       | `consume` |
//! | what is measured and printed         | `report`  |

use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;

use clap::{Args as ClapArgs, Subcommand};
use skylark_client::{Admin, Client, ClientOptions, TopicSettings};
use skylark_protocol::ResponseCode;
use skylark_protocol::transport::{Connector, Session};
use skylark_transport_tcp::{Limits, TcpTransport};
use tokio::runtime::{Builder, Runtime};
use tokio::time::{Instant, sleep, sleep_until};

use super::{Failure, log_warnings_to_stderr};

mod consume;
mod produce;
mod report;

use report::{Load, Phase, Report, Run};

/// What `skylark bench` takes.
#[derive(ClapArgs)]
pub(super) struct Args {
    #[command(subcommand)]
    kind: Kind,
}

#[derive(Subcommand)]
enum Kind {
    /// Send messages as fast as they are answered
    Produce(produce::Args),
    /// Pull messages as fast as they come
    Consume(consume::Args),
}

/// What both kinds of load take.
#[derive(ClapArgs, Clone)]
struct Common {
    /// Nameservers, separated by semicolons
    #[arg(long, env = "NAMESRV_ADDR", default_value = "127.0.0.1:9876", value_name = "HOST:PORT")]
    namesrv: String,

    /// Load this broker, without asking a nameserver
    #[arg(long, value_name = "HOST:PORT")]
    broker: Option<String>,

    /// Topic; it is created if it does not exist
    #[arg(long, default_value = "skylark_bench")]
    topic: String,

    /// Queues of the topic, if it has to be created, or no nameserver is asked
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(i32).range(1..))]
    queues: i32,

    /// Connections, spread over the brokers
    #[arg(long, default_value = "16")]
    connections: NonZeroUsize,

    /// Seconds to measure
    #[arg(long, default_value = "10", value_name = "SECONDS", value_parser = parse_seconds)]
    duration: Duration,

    /// Seconds before that
    #[arg(long, default_value = "3", value_name = "SECONDS", value_parser = parse_seconds)]
    warmup: Duration,

    /// Threads of the load generator
    #[arg(long, default_value_t = 1)]
    threads: usize,

    /// Print one JSON object instead of text
    #[arg(long)]
    json: bool,
}

fn parse_seconds(text: &str) -> Result<Duration, String> {
    let seconds: f64 = text.parse().map_err(|_| "say how many seconds".to_owned())?;
    Duration::try_from_secs_f64(seconds).map_err(|error| error.to_string())
}

/// A broker and the queues of the topic that it has.
struct Target {
    address: String,
    queues: Vec<i32>,
}

pub(super) fn run(args: Args) -> Result<(), Failure> {
    log_warnings_to_stderr();
    match args.kind {
        Kind::Produce(args) => produce::run(args),
        Kind::Consume(args) => consume::run(&args),
    }
}

fn runtime(common: &Common) -> Result<(Runtime, TcpTransport), Failure> {
    let mut builder = match common.threads {
        0 | 1 => Builder::new_current_thread(),
        _ => Builder::new_multi_thread(),
    };
    let runtime = builder.worker_threads(common.threads.max(1)).enable_all().build()?;
    let transport = TcpTransport::new(Limits::default(), runtime.handle().clone());
    Ok((runtime, transport))
}

/// Finds the topic's brokers, and creates it where it is missing.
async fn targets(common: &Common, client: &Client) -> Result<Vec<Target>, Failure> {
    let admin = Admin::new(client);
    let settings = TopicSettings::with_queues(common.queues);
    if let Some(address) = &common.broker {
        admin.create_topic(address, &common.topic, settings).await?;
        return Ok(vec![Target { address: address.clone(), queues: (0..common.queues).collect() }]);
    }
    match client.route(&common.topic).await {
        Err(error) if error.code() == Some(ResponseCode::TOPIC_NOT_EXIST) => {
            let cluster = admin.cluster().await?;
            for broker in cluster.broker_addr_table.values() {
                if let Some(leader) = broker.broker_addrs.get(&0) {
                    admin.create_topic(leader, &common.topic, settings).await?;
                }
            }
        }
        Err(error) => return Err(error.into()),
        Ok(_) => {}
    }
    let route = routed(common, client).await?;
    let mut targets: Vec<Target> = Vec::new();
    for queue in route.write_queues(&common.topic) {
        let Some(address) = route.leader(&queue.broker) else { continue };
        match targets.iter_mut().find(|target| target.address == address) {
            Some(target) => target.queues.push(queue.id),
            None => targets.push(Target { address: address.to_owned(), queues: vec![queue.id] }),
        }
    }
    if targets.is_empty() { Err("the topic has no queues that can be written".into()) } else { Ok(targets) }
}

/// The topic's route; brokers tell the nameservers of a new topic in their own time.
async fn routed(common: &Common, client: &Client) -> Result<Arc<skylark_client::Route>, Failure> {
    let until = Instant::now() + ROUTE_WAIT;
    loop {
        match client.route(&common.topic).await {
            Ok(route) => return Ok(route),
            Err(error) if Instant::now() >= until => return Err(error.into()),
            Err(_not_yet) => sleep(ROUTE_AGAIN).await,
        }
    }
}

/// Connects, warms up, measures, and lets what is under way come home.
async fn measure(
    common: &Common,
    transport: &TcpTransport,
    load: &Arc<Load>,
    sessions: Vec<(String, Box<dyn Session>)>,
) -> Report {
    let started = Instant::now();
    let connections = sessions.len();
    if common.warmup.is_zero() {
        // Before the first request: everything is to be counted.
        load.enter(Phase::Measure);
    }
    for (address, session) in sessions {
        transport.connect(&address, session);
    }
    let mut begun = started;
    if !common.warmup.is_zero() {
        load.until(started + common.warmup).await;
        load.enter(Phase::Measure);
        begun = Instant::now();
    }
    load.until(begun + common.duration).await;
    load.enter(Phase::Drain);
    let measured = begun.elapsed();
    tokio::select! {
        () = load.all_ended() => {}
        () = sleep_until(Instant::now() + DRAIN_WAIT) => {}
    }
    load.report(Run { connections, measured })
}

fn client(common: &Common, transport: &TcpTransport) -> Client {
    Client::new(Arc::new(transport.clone()), ClientOptions::new(&common.namesrv))
}

const ROUTE_WAIT: Duration = Duration::from_secs(40);
const ROUTE_AGAIN: Duration = Duration::from_millis(200);
const DRAIN_WAIT: Duration = Duration::from_secs(20);

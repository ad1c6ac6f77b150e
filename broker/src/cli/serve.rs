//! `skylark serve`: the broker, with a nameserver inside.

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use skylark_protocol::transport::{Connector, Listener};
use skylark_storage::clock::{Clock, SystemClock};
use skylark_storage::device::{DeviceChoice, Directory};
use skylark_storage::{OpenError, Stopped, Visibility};
use skylark_transport_tcp::{Limits, Listening, TcpTransport};
use tokio::runtime::Runtime;
use tokio::signal::unix::{SignalKind, signal};
use tracing::{error, info, warn};

use super::log::repair;
use super::{Failure, log_to_stderr, nameserver};
use crate::broker::{Broker, COMMIT_INTERVAL, Running, StartError, TICK};
use crate::config::broker_conf::{self, BrokerConf};
use crate::config::{Config, Mistakes, Settings, reachable};
use crate::dispatch;
use crate::hosted::Hosted;
use crate::registrar::Registrar;
use crate::session::ClientService;

/// How long answers on their way may take once the process is told to stop.
const GRACE: Duration = Duration::from_secs(5);
/// How long the start waits for the nameservers to know this broker before it says that it is ready.
const FIRST_REGISTRATION: Duration = Duration::from_secs(3);
/// Threads that read what left memory: one request of a slow disk must not hold up all others.
const READERS: usize = 2;

/// What `skylark serve` takes. Options lead the environment, that leads `--config`, that leads `--broker-conf`.
#[derive(clap::Args, Default)]
pub(super) struct Args {
    /// TOML file with the options below, by the same names
    #[arg(long, env = "SKYLARK_CONFIG", value_name = "FILE")]
    config: Option<PathBuf>,

    /// RocketMQ's broker.conf; keys without effect are named, unknown ones refused
    #[arg(short = 'c', long, value_name = "FILE")]
    broker_conf: Option<PathBuf>,

    #[command(flatten)]
    settings: Settings,
}

pub(super) fn run(args: Args) -> Result<(), Failure> {
    log_to_stderr();
    let (settings, notices) = read(args)?;
    for notice in &notices {
        warn!(key = notice.key, "broker.conf: {}", notice.what);
    }
    let config = Config::new(settings)?;
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
    let files = Directory::open(&config.data)
        .map_err(|error| format!("cannot use data directory {}: {error}", config.data.display()))?
        .with_device(config.device);
    if let DeviceChoice::Fixed(device) = config.device {
        files.check_device().map_err(|error| format!("cannot use the device {device}: {error}"))?;
    }
    let Running { broker, dispatcher, archivist, writer, housekeeper, recovery, prepared } =
        Broker::open(Arc::new(files.clone()), Arc::clone(&clock), &config)
            .map_err(|error| with_remedy(error, &config.data))?;
    info!(clean = recovery.clean, end = recovery.end.get(), "log recovered: {recovery}");

    let mut threads = vec![
        spawn("writer", move || writer.run())?,
        spawn("housekeeper", move || housekeeper.run())?,
        spawn("dispatcher", move || dispatch::run_or_abort(dispatcher))?,
        spawn("archivist", move || archivist.run())?,
    ];
    for _ in 0..READERS {
        let broker = Arc::clone(&broker);
        threads.push(spawn("reader", move || broker.readers.run(&broker))?);
    }
    broker.applied.wait_blocking(prepared)?;
    info!(choice = %config.device, device = %files.chosen_device(), "how the log reaches the disk");
    if config.device == DeviceChoice::Auto {
        // Nobody waits for it, not even whoever stops the broker: then the next start measures.
        drop(spawn("calibration", move || calibrate(&files))?);
    }
    let timed = Arc::clone(&broker);
    threads.push(spawn("timers", move || timed.timers.run(&timed))?);
    let open = Arc::clone(&broker);
    threads.push(spawn("transactions", move || open.transactions.run(&open))?);
    let popped = Arc::clone(&broker);
    threads.push(spawn("pops", move || popped.pops.run(&popped))?);

    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(config.workers)
        .thread_name("worker")
        .enable_all()
        .build()?;
    let served = serve(&runtime, &config, &broker, clock);
    runtime.shutdown_timeout(GRACE);
    // Offsets that clients have committed since the last round.
    if let Err(error) = broker.commit_offsets() {
        warn!(%error, "the latest consumer offsets are not stored; consumers will see some messages again");
    }
    broker.timers.close();
    broker.transactions.close();
    broker.pops.close();
    broker.log.close();
    let stopped = broker.log.wait_stopped();
    broker.readers.close();
    broker.archive.close();
    for thread in threads {
        thread.join().map_err(|_| "a thread of the broker panicked")?;
    }
    served?;
    match stopped {
        Stopped::Closed => info!("stopped"),
        poisoned => return Err(poisoned.into()),
    }
    Ok(())
}

/// Names the command that lets a broker start again where damage keeps it from starting.
fn with_remedy(error: StartError, directory: &Path) -> Failure {
    let command = repair::Command { directory };
    match &error {
        StartError::Open(OpenError::Corrupt(_)) => {
            format!("{error}. The latter is done by `{command}`; with --dry-run it says what would be given up").into()
        }
        StartError::Read { error: cause, .. } => format!(
            "{error}, or give up everything from there on: `{command} --cut-at {}`; with --dry-run it says what that is",
            cause.at()
        )
        .into(),
        _ => error.into(),
    }
}

fn serve(
    runtime: &Runtime,
    config: &Config,
    broker: &Arc<Broker>,
    clock: Arc<dyn Clock>,
) -> Result<(), Failure> {
    let mut limits = Limits::default();
    limits.connections_max = config.connections_max;
    limits.idle = Duration::from_secs(config.idle_seconds);
    limits.slow_frame = Duration::from_secs(config.frame_seconds);
    let transport = TcpTransport::new(limits, runtime.handle().clone());

    let mut listening = Vec::new();
    if let Some(address) = config.namesrv_listen {
        let server = nameserver::server(address);
        Hosted::host(broker, &server);
        let service = nameserver::keep(runtime, clock, server);
        listening
            .push(transport.listen(address, Listener::NameServer, service).map_err(cannot_listen(address))?);
    }
    let service = Arc::new(ClientService::new(Arc::clone(broker)));
    let main = transport.listen(config.listen, Listener::Broker, Arc::clone(&service) as _);
    listening.push(main.map_err(cannot_listen(config.listen))?);
    if let Some(port) = config.listen.port().checked_sub(2).filter(|port| *port > 0) {
        let address = std::net::SocketAddr::new(config.listen.ip(), port);
        match transport.listen(address, Listener::BrokerFast, service) {
            Ok(fast) => listening.push(fast),
            Err(error) => {
                warn!(%address, %error, "no fast listener; clients with vipChannelEnabled will not get through")
            }
        }
    }

    let connector: Arc<dyn Connector> = Arc::new(transport);
    let registrar = Registrar::new(Arc::clone(broker), connector, config.namesrv.clone());
    runtime.block_on(async {
        let mut keeper = tokio::spawn(keep(Arc::clone(broker), Arc::clone(&registrar)));
        if !registrar.first_registration(FIRST_REGISTRATION).await {
            warn!("no nameserver has answered yet; clients find this broker once one has");
        }
        // Before it says that it is ready: whoever has read that may stop it.
        let stopped = stopped_by_signal()?;
        banner(config, &listening)?;
        let ended = tokio::select! {
            () = stopped => Ok(()),
            // It ends only by a panic; without it nothing would expire and no offset would be stored.
            _panic = &mut keeper => Err("the broker's housekeeping failed; its log says more".into()),
        };
        info!("stopping");
        keeper.abort();
        registrar.unregister().await;
        // What was taken becomes durable, so that it is acknowledged before connections close. A log that has
        // stopped has told its clients so.
        let settling = Arc::clone(broker);
        let settled = tokio::task::spawn_blocking(move || {
            settling.log.durable().wait_blocking(settling.log.frontiers().appended_end).ok();
        });
        tokio::time::timeout(GRACE, settled).await.ok();
        for listening in listening {
            listening.shutdown(GRACE).await;
        }
        ended
    })
}

/// What has to happen again and again while the broker serves.
async fn keep(broker: Arc<Broker>, registrar: Arc<Registrar>) {
    let mut tick = tokio::time::interval(TICK);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
    let mut committed = broker.clock.monotonic();
    let mut is_storing = true;
    loop {
        tick.tick().await;
        broker.tick();
        registrar.tick();
        let now = broker.clock.monotonic();
        if now.saturating_sub(committed) >= COMMIT_INTERVAL {
            committed = now;
            let outcome = broker.commit_offsets();
            if let Err(error) = &outcome
                && is_storing
            {
                error!(%error, "consumer offsets cannot be stored");
            }
            is_storing = outcome.is_ok();
        }
    }
}

/// Ends with the first signal that comes from now on.
fn stopped_by_signal() -> io::Result<impl Future<Output = ()>> {
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    })
}

fn banner(config: &Config, listening: &[Listening]) -> io::Result<()> {
    let addresses: Vec<_> = listening.iter().map(|listening| listening.local_addr().to_string()).collect();
    let mut out = io::stdout().lock();
    writeln!(out, "Skylark {}", env!("CARGO_PKG_VERSION"))?;
    writeln!(out, "  listens on    {}", addresses.join(", "))?;
    writeln!(
        out,
        "  advertises    {} as {} in {}",
        config.identity.address, config.identity.broker, config.identity.cluster
    )?;
    writeln!(out, "  nameservers   {}", config.namesrv.join(", "))?;
    writeln!(out, "  data          {}", shown(&config.data))?;
    let durability = match config.flush {
        Visibility::Durable => {
            "flush before ack: what is acknowledged survives process kill and power loss, not the loss of the disk"
        }
        Visibility::Written => {
            "ASYNCHRONOUS FLUSH: what is acknowledged survives process kill, not power loss nor the loss of the disk"
        }
    };
    writeln!(out, "  durability    {durability}")?;
    let wide = |address: std::net::SocketAddr| {
        !reachable(address).ip().is_loopback() || address.ip().is_unspecified()
    };
    if listening.iter().any(|listening| wide(listening.local_addr())) {
        writeln!(
            out,
            "  ACCESS        UNAUTHENTICATED: whoever reaches these ports may read and write everything"
        )?;
    }
    writeln!(out, "ready")?;
    out.flush()
}

fn shown(path: &Path) -> String {
    std::fs::canonicalize(path).unwrap_or_else(|_| path.to_owned()).display().to_string()
}

fn cannot_listen(address: std::net::SocketAddr) -> impl FnOnce(io::Error) -> Failure {
    move |error| format!("cannot listen on {address}: {error}").into()
}

fn calibrate(files: &Directory) {
    if let Err(error) = files.calibrate_if_due() {
        warn!(%error, device = %files.chosen_device(), "the devices cannot be measured; the log keeps the one it has");
    }
}

fn spawn(name: &str, run: impl FnOnce() + Send + 'static) -> io::Result<JoinHandle<()>> {
    std::thread::Builder::new().name(name.to_owned()).spawn(run)
}

fn read(args: Args) -> Result<(Settings, Vec<broker_conf::Notice>), Failure> {
    let text = |path: &Path| {
        std::fs::read_to_string(path).map_err(|error| format!("cannot read {}: {error}", path.display()))
    };
    let mut settings = args.settings;
    if let Some(path) = &args.config {
        let file = toml::from_str(&text(path)?).map_err(|error| format!("{}: {error}", path.display()))?;
        settings = settings.or(file);
    }
    let mut notices = Vec::new();
    if let Some(path) = &args.broker_conf {
        let BrokerConf { settings: file, notices: found } =
            broker_conf::translate(&text(path)?).map_err(Mistakes)?;
        settings = settings.or(file);
        notices = found;
    }
    Ok((settings, notices))
}

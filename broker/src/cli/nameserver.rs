//! `skylark nameserver`: the route registry alone.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use skylark_nameserver::{FileJournal, NameServer, NameServerService, TICK_INTERVAL};
use skylark_protocol::transport::Listener;
use skylark_storage::clock::{Clock, SystemClock};
use skylark_storage::device::Directory;
use skylark_transport_tcp::{Limits, TcpTransport};
use tokio::runtime::Runtime;
use tokio::signal::unix::{SignalKind, signal};
use tracing::warn;

use super::{Failure, log_to_stderr};

/// What `skylark nameserver` takes.
#[derive(clap::Args)]
pub(super) struct Args {
    /// Address to listen on
    #[arg(long, env = "SKYLARK_NAMESRV_LISTEN", default_value = "127.0.0.1:9876", value_name = "IP:PORT")]
    listen: SocketAddr,

    /// Directory for key-value configuration, which is kept in kvConfig.json; created if absent
    #[arg(long, env = "SKYLARK_NAMESRV_STORE", default_value = "./skylark-nameserver", value_name = "DIR")]
    store: PathBuf,

    /// Serve other machines although nothing asks who they are
    #[arg(long, env = "SKYLARK_ALLOW_UNAUTHENTICATED")]
    allow_unauthenticated: bool,
}

pub(super) fn run(args: &Args) -> Result<(), Failure> {
    log_to_stderr();
    if !args.listen.ip().is_loopback() && !args.allow_unauthenticated {
        return Err("--listen is reachable from other machines, and nothing here asks who they are; \
                    listen on a loopback address, or say --allow-unauthenticated"
            .into());
    }
    let store = args.store.display();
    let files =
        Directory::open(&args.store).map_err(|error| format!("cannot use --store {store}: {error}"))?;
    let (journal, tables) = FileJournal::open(Arc::new(files))?;
    let server = server(args.listen);
    server.restore_kv(tables);
    server.set_journal(Box::new(journal));
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let service = keep(&runtime, Arc::new(SystemClock::new()), server);
    let transport = TcpTransport::new(Limits::default(), runtime.handle().clone());
    let listening = transport
        .listen(args.listen, Listener::NameServer, service)
        .map_err(|error| format!("cannot listen on {}: {error}", args.listen))?;
    println!("Skylark {} nameserver\n  listens on    {}", env!("CARGO_PKG_VERSION"), listening.local_addr());
    println!("  store         {store}");
    if !args.listen.ip().is_loopback() {
        println!("  ACCESS        UNAUTHENTICATED: whoever reaches this port may change routes");
    }
    println!("ready");
    runtime.block_on(async {
        let (mut terminate, mut interrupt) =
            (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        listening.shutdown(Duration::from_secs(5)).await;
        Ok(())
    })
}

/// A registry that knows nobody yet.
pub(super) fn server(listen: SocketAddr) -> Arc<NameServer> {
    Arc::new(NameServer::new([("listenPort".to_owned(), listen.port().to_string())]))
}

/// Serves a registry, whose silent brokers are dropped while `runtime` runs.
pub(super) fn keep(
    runtime: &Runtime,
    clock: Arc<dyn Clock>,
    server: Arc<NameServer>,
) -> Arc<NameServerService> {
    let (ticking, ticking_clock) = (Arc::clone(&server), Arc::clone(&clock));
    runtime.spawn(async move {
        let mut tick = tokio::time::interval(TICK_INTERVAL);
        loop {
            tick.tick().await;
            for expired in ticking.tick(ticking_clock.monotonic()) {
                warn!(cluster = expired.cluster, address = expired.address, "broker gave no sign of life");
            }
        }
    });
    Arc::new(NameServerService::new(server, Arc::new(move || clock.monotonic())))
}

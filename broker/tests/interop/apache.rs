//! Apache RocketMQ's own name server and broker as children, on free ports and directories of their own.

// Two test binaries include this, and one of them starts only both servers together.
#![allow(dead_code, reason = "not every test binary needs every function")]

use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use skylark_protocol::code::{RequestCode, ResponseCode};
use skylark_protocol::outgoing::Value;
use tempfile::TempDir;

use crate::support::process::{Process, Signal};
use crate::support::raw::Raw;
use crate::support::server::free_port;
use crate::toolchain;

const START_WITHIN: Duration = Duration::from_secs(120);
const KILLED_WITHIN: Duration = Duration::from_secs(30);
/// What the servers print once they accept.
const STARTED: &str = "boot success";

/// Apache's name server. Dropped, it is killed.
pub(crate) struct NameServer {
    // Before the directory that it writes to.
    _process: Process,
    _directory: TempDir,
    pub(crate) address: SocketAddr,
}

impl NameServer {
    /// Starts one that knows of nothing.
    pub(crate) fn start(class_path: &str) -> Self {
        let directory = directory();
        let home = directory.path();
        let address: SocketAddr = (Ipv4Addr::LOCALHOST, free_port(&[0])).into();
        let settings = format!("listenPort={}\nbindAddress=127.0.0.1\n", address.port());
        fs::write(home.join("namesrv.conf"), settings).expect("the directory is writable");
        let mut command = server(class_path, home);
        command.args(["-Xmx256m", "org.apache.rocketmq.namesrv.NamesrvStartup", "-c"]);
        let mut process = Process::start("Apache's name server", command.arg(home.join("namesrv.conf")));
        process.line(START_WITHIN, |line| line.contains(STARTED));
        Self { _process: process, _directory: directory, address }
    }
}

/// Apache's broker. Dropped, it is killed.
pub(crate) struct Broker {
    pub(crate) process: Process,
    directory: TempDir,
    pub(crate) address: SocketAddr,
}

impl Broker {
    /// Starts one on an empty directory, with its defaults as far as clients can tell, and has it registered.
    pub(crate) fn start(class_path: &str, nameserver: SocketAddr) -> Self {
        Self::start_with(class_path, nameserver, &[])
    }

    /// The same, with these lines in its configuration.
    pub(crate) fn start_with(class_path: &str, nameserver: SocketAddr, lines: &[&str]) -> Self {
        let directory = directory();
        let home = directory.path();
        // The broker listens on a port two below its own and on one above as well.
        let address: SocketAddr = (Ipv4Addr::LOCALHOST, free_port(&[-2, 0, 1])).into();
        let settings = [
            "brokerClusterName=DefaultCluster".to_owned(),
            "brokerName=broker-a".to_owned(),
            "brokerIP1=127.0.0.1".to_owned(),
            "bindAddress=127.0.0.1".to_owned(),
            format!("namesrvAddr={nameserver}"),
            format!("listenPort={}", address.port()),
            format!("haListenPort={}", address.port() + 1),
            format!("storePathRootDir={}", home.join("store").display()),
            // A busy machine keeps sends waiting for more than the default fifth of a second.
            "waitTimeMillsInSendQueue=10000".to_owned(),
            // What ours does without being asked.
            "enablePropertyFilter=true".to_owned(),
            // The default gigabyte is of no use to a handful of topics.
            "mappedFileSizeCommitLog=16777216".to_owned(),
        ];
        let settings = [settings.join("\n"), lines.join("\n")].join("\n");
        fs::write(home.join("broker.conf"), settings).expect("the directory is writable");
        let process = Self::launch(class_path, home);
        registered(nameserver);
        Self { process, directory, address }
    }

    /// SIGKILL, and started again on what it left.
    pub(crate) fn kill_and_restart(&mut self, class_path: &str) {
        self.process.signal(Signal::KILL);
        self.process.wait(KILLED_WITHIN);
        self.process = Self::launch(class_path, self.directory.path());
    }

    fn launch(class_path: &str, home: &Path) -> Process {
        let mut command = server(class_path, home);
        command.args(["-Xmx768m", "org.apache.rocketmq.broker.BrokerStartup", "-c"]);
        let mut process = Process::start("Apache's broker", command.arg(home.join("broker.conf")));
        process.line(START_WITHIN, |line| line.contains(STARTED));
        process
    }
}

/// The name server with one broker in it. Dropped, both are killed.
pub(crate) struct Apache {
    pub(crate) server: Broker,
    _nameserver: NameServer,
    pub(crate) nameserver: SocketAddr,
    pub(crate) broker: SocketAddr,
}

impl Apache {
    /// Starts both, empty.
    pub(crate) fn start(class_path: &str) -> Self {
        Self::start_with(class_path, &[])
    }

    /// The same, with these lines in the broker's configuration.
    pub(crate) fn start_with(class_path: &str, lines: &[&str]) -> Self {
        let nameserver = NameServer::start(class_path);
        let broker = Broker::start_with(class_path, nameserver.address, lines);
        let (nameserver_address, broker_address) = (nameserver.address, broker.address);
        Self {
            server: broker,
            _nameserver: nameserver,
            nameserver: nameserver_address,
            broker: broker_address,
        }
    }
}

/// `mqadmin` with these arguments against a name server, to be waited for.
pub(crate) fn mqadmin(
    class_path: &str,
    home: &Path,
    nameserver: SocketAddr,
    arguments: &[String],
) -> Process {
    let mut command = server(class_path, home);
    command.args(["-Xmx256m", "org.apache.rocketmq.tools.command.MQAdminStartup"]);
    command.args(arguments).arg("-n").arg(nameserver.to_string());
    Process::start(&format!("mqadmin {}", arguments.join(" ")), &mut command)
}

/// Returns once the name server knows the broker's topics, which it is told a moment after the broker accepts.
fn registered(nameserver: SocketAddr) {
    let deadline = Instant::now() + START_WITHIN;
    let mut connection = Raw::connect(nameserver).expect("the name server has started");
    loop {
        let fields = [("topic", Value::Text("TBW102"))];
        let route = connection.call(RequestCode::GET_ROUTEINFO_BY_TOPIC, &fields, &[]);
        if route.expect("the name server answers").code == ResponseCode::SUCCESS.0 {
            return;
        }
        assert!(Instant::now() < deadline, "the broker is not registered");
        // Nobody tells a client when a broker registers.
        thread::sleep(Duration::from_millis(50));
    }
}

fn directory() -> TempDir {
    TempDir::new_in(env!("CARGO_TARGET_TMPDIR")).expect("the build directory is writable")
}

fn server(class_path: &str, home: &Path) -> Command {
    let mut command = toolchain::java(class_path, home);
    command.env("ROCKETMQ_HOME", home);
    // The servers reach into the JDK to release their buffers.
    for package in ["java.nio", "sun.nio.ch", "jdk.internal.ref"] {
        command.arg(format!("--add-opens=java.base/{package}=ALL-UNNAMED"));
        command.arg(format!("--add-exports=java.base/{package}=ALL-UNNAMED"));
    }
    command
}

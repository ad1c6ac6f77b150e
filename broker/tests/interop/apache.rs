//! Apache RocketMQ's own name server and broker as children, on free ports and a directory of their own.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use tempfile::TempDir;

use crate::support::process::Process;
use crate::support::server::free_port;
use crate::toolchain;

const START_WITHIN: Duration = Duration::from_secs(120);
/// What the servers print once they accept.
const STARTED: &str = "boot success";

/// The name server with one broker in it. Dropped, both are killed.
pub(crate) struct Apache {
    // Before the directory that they write to.
    _servers: [Process; 2],
    _directory: TempDir,
    pub(crate) nameserver: SocketAddr,
    pub(crate) broker: SocketAddr,
}

impl Apache {
    /// Starts both on an empty directory, the broker with its defaults as far as clients can tell.
    pub(crate) fn start(class_path: &str) -> Self {
        let directory =
            TempDir::new_in(env!("CARGO_TARGET_TMPDIR")).expect("the build directory is writable");
        let home = directory.path();
        let nameserver: SocketAddr = (Ipv4Addr::LOCALHOST, free_port(&[0])).into();
        // The broker listens on a port two below its own and on one above as well.
        let broker: SocketAddr = (Ipv4Addr::LOCALHOST, free_port(&[-2, 0, 1])).into();

        let settings = format!("listenPort={}\nbindAddress=127.0.0.1\n", nameserver.port());
        fs::write(home.join("namesrv.conf"), settings).expect("the directory is writable");
        let mut command = server(class_path, home);
        command.args(["-Xmx256m", "org.apache.rocketmq.namesrv.NamesrvStartup", "-c"]);
        let mut namesrv = Process::start("Apache's name server", command.arg(home.join("namesrv.conf")));
        namesrv.line(START_WITHIN, |line| line.contains(STARTED));

        let settings = [
            "brokerClusterName=DefaultCluster".to_owned(),
            "brokerName=broker-a".to_owned(),
            "brokerIP1=127.0.0.1".to_owned(),
            "bindAddress=127.0.0.1".to_owned(),
            format!("namesrvAddr={nameserver}"),
            format!("listenPort={}", broker.port()),
            format!("haListenPort={}", broker.port() + 1),
            format!("storePathRootDir={}", home.join("store").display()),
            // The default gigabyte is of no use to a handful of topics.
            "mappedFileSizeCommitLog=16777216".to_owned(),
        ];
        fs::write(home.join("broker.conf"), settings.join("\n")).expect("the directory is writable");
        let mut command = server(class_path, home);
        command.args(["-Xmx768m", "org.apache.rocketmq.broker.BrokerStartup", "-c"]);
        let mut process = Process::start("Apache's broker", command.arg(home.join("broker.conf")));
        process.line(START_WITHIN, |line| line.contains(STARTED));
        Self { _servers: [process, namesrv], _directory: directory, nameserver, broker }
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

//! Deployments half of which is Apache's: our broker registered with its name server, and its broker with ours.
//! Clients send and consume, `mqadmin` shows the broker, and one that is stopped is gone from the routes at once.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::apache;
use crate::clients::{Client, Scenario, verdict};
use crate::support::process::{Process, Signal};
use crate::support::server::free_port;
use crate::toolchain;

const LIMIT: Duration = Duration::from_secs(240);
const START_WITHIN: Duration = Duration::from_secs(60);
const COMMAND_WITHIN: Duration = Duration::from_secs(90);
/// A broker that says nothing is forgotten after two minutes; one that takes its leave, long before.
const GONE_WITHIN: Duration = Duration::from_secs(60);
/// Apache's broker waits for its threads to end.
const STOP_WITHIN: Duration = Duration::from_secs(90);

/// Made by the older client's scenario.
const TOPIC: &str = "InteropOlderPush";

/// Where a deployment's parts are.
struct Deployment<'a> {
    class_path: &'a str,
    scratch: &'a Path,
    nameserver: SocketAddr,
    broker: SocketAddr,
}

/// Our broker under Apache's name server.
pub(crate) fn our_broker() {
    let (Some(class_path), Some(clients)) = (toolchain::apache(), clients()) else { return };
    let directory = directory();
    let nameserver = apache::NameServer::start(class_path);
    let broker: SocketAddr = (Ipv4Addr::LOCALHOST, free_port(&[-2, 0])).into();
    let mut command = Command::new(env!("CARGO_BIN_EXE_skylark"));
    command.arg("serve").arg("--data").arg(directory.path().join("data"));
    command.args(["--listen", &broker.to_string(), "--namesrv-listen", "none"]);
    command.args(["--namesrv", &nameserver.address.to_string()]);
    let mut process = ready(command);
    let deployment =
        Deployment { class_path, scratch: directory.path(), nameserver: nameserver.address, broker };
    deployment.serves(&clients, &process);
    process.signal(Signal::TERM);
    assert!(process.wait(STOP_WITHIN).success(), "{}", process.transcript());
    deployment.is_gone();
}

/// Apache's broker under our name server.
pub(crate) fn their_broker() {
    let (Some(class_path), Some(clients)) = (toolchain::apache(), clients()) else { return };
    let nameserver: SocketAddr = (Ipv4Addr::LOCALHOST, free_port(&[0])).into();
    let directory = directory();
    let mut command = Command::new(env!("CARGO_BIN_EXE_skylark"));
    // It keeps its configuration beside where it is started.
    command.current_dir(directory.path()).args(["nameserver", "--listen", &nameserver.to_string()]);
    let mut process = ready(command);
    let mut broker = apache::Broker::start(class_path, nameserver);
    let deployment = Deployment { class_path, scratch: directory.path(), nameserver, broker: broker.address };
    deployment.serves(&clients, &process);
    broker.process.signal(Signal::TERM);
    // How it ends is its own affair.
    broker.process.wait(STOP_WITHIN);
    deployment.is_gone();
    process.signal(Signal::TERM);
    assert!(process.wait(STOP_WITHIN).success(), "{}", process.transcript());
}

impl Deployment<'_> {
    /// A current and an older client send and consume, and the tools show what serves them.
    fn serves(&self, clients: &[(Client, Scenario)], ours: &Process) {
        for (client, scenario) in clients {
            let process = client.start(self.nameserver, self.broker, self.scratch, scenario);
            if let Err(failure) = verdict(process, scenario) {
                panic!("{failure}\n{}", ours.transcript());
            }
        }
        let address = self.broker.to_string();
        for command in ["clusterList", &format!("topicRoute -t {TOPIC}")] {
            let shown = self.mqadmin(command);
            assert!(shown.contains(&address), "mqadmin {command} without {address}:\n{shown}");
        }
        println!("ok mixed.serves broker={address} nameserver={}", self.nameserver);
    }

    /// Nothing leads to the broker any more.
    fn is_gone(&self) {
        let address = self.broker.to_string();
        let begun = Instant::now();
        for command in ["clusterList", &format!("topicRoute -t {TOPIC}")] {
            loop {
                let shown = self.mqadmin(command);
                if !shown.contains(&address) {
                    break;
                }
                assert!(begun.elapsed() < GONE_WITHIN, "mqadmin {command} still with {address}:\n{shown}");
            }
        }
        println!("ok mixed.unregistered broker={address}");
    }

    /// What the tool prints, failures included: it ends with 0 whatever happened.
    fn mqadmin(&self, command: &str) -> String {
        let arguments: Vec<String> = command.split(' ').map(str::to_owned).collect();
        let tool = apache::mqadmin(self.class_path, self.scratch, self.nameserver, &arguments);
        tool.finish(COMMAND_WITHIN).succeeded().lines.join("\n")
    }
}

fn clients() -> Option<[(Client, Scenario); 2]> {
    let send = Scenario {
        name: "send",
        option: None,
        checks: vec!["send.sync", "send.async", "send.oneway", "send.batch", "send.auto-create"],
        limit: LIMIT,
    };
    let send_push = Scenario {
        name: "send-push",
        option: Some(("messages", "200".to_owned())),
        checks: vec!["push.each-once", "push.as-sent", "push.commits", "push.goes-on-behind-commit"],
        limit: LIMIT,
    };
    Some([(Client::java()?, send), (Client::java_4_9()?, send_push)])
}

fn ready(mut command: Command) -> Process {
    let mut process = Process::start("skylark", &mut command);
    process.line(START_WITHIN, |line| line.starts_with("ready"));
    process
}

fn directory() -> TempDir {
    TempDir::new_in(env!("CARGO_TARGET_TMPDIR")).expect("the build directory is writable")
}

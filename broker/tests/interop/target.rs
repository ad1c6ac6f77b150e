//! The broker that client programs run against: ours, or Apache's to see whether the programs expect what
//! RocketMQ does.

// Two test binaries include this, and only one of them kills brokers.
#![allow(dead_code, reason = "not every test binary needs every function")]

use std::net::SocketAddr;
use std::path::Path;

use tempfile::TempDir;

use crate::apache::Apache;
use crate::support::server::Server;
use crate::toolchain;

/// A broker with a name server.
pub(crate) enum Target {
    Skylark(Box<Server>),
    Apache { servers: Box<Apache>, scratch: TempDir },
}

impl Target {
    /// Ours, unless `SKYLARK_INTEROP_AGAINST=apache`; Apache's only if it can be had.
    pub(crate) fn start() -> Option<Self> {
        Self::start_with(&[], &[])
    }

    /// The same, ours with these options, Apache's with these lines in its configuration.
    pub(crate) fn start_with(options: &[&str], lines: &[&str]) -> Option<Self> {
        if std::env::var_os("SKYLARK_INTEROP_AGAINST").is_none_or(|wish| wish != "apache") {
            return Some(Self::Skylark(Box::new(Server::start_with(options))));
        }
        let servers = Box::new(Apache::start_with(toolchain::apache()?, lines));
        let scratch = TempDir::new_in(env!("CARGO_TARGET_TMPDIR")).expect("the build directory is writable");
        Some(Self::Apache { servers, scratch })
    }

    pub(crate) fn nameserver(&self) -> SocketAddr {
        match self {
            Self::Skylark(server) => server.nameserver(),
            Self::Apache { servers, .. } => servers.nameserver,
        }
    }

    pub(crate) fn broker(&self) -> SocketAddr {
        match self {
            Self::Skylark(server) => server.broker(),
            Self::Apache { servers, .. } => servers.broker,
        }
    }

    /// A directory that lives as long as the broker and that it does not touch.
    pub(crate) fn scratch(&self) -> &Path {
        match self {
            Self::Skylark(server) => server.scratch(),
            Self::Apache { scratch, .. } => scratch.path(),
        }
    }

    /// What our broker printed; Apache's logs to files.
    pub(crate) fn transcript(&self) -> String {
        match self {
            Self::Skylark(server) => server.transcript(),
            Self::Apache { .. } => String::new(),
        }
    }

    /// SIGKILL, and started again on what it left.
    pub(crate) fn kill_and_restart(&mut self) {
        match self {
            Self::Skylark(server) => {
                server.kill();
                server.restart();
            }
            Self::Apache { servers, .. } => {
                let class_path = toolchain::apache().expect("Apache's broker was started from it");
                servers.server.kill_and_restart(class_path);
            }
        }
    }

    /// Whether it is Apache's.
    pub(crate) fn is_apache(&self) -> bool {
        matches!(self, Self::Apache { .. })
    }

    /// Our broker ends cleanly after it has served clients.
    pub(crate) fn stop(self) {
        if let Self::Skylark(mut server) = self {
            assert!(server.terminate().success(), "a broker that served clients ends cleanly");
        }
    }
}

//! The command line.

use std::io::IsTerminal;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

mod nameserver;
mod serve;

/// A RocketMQ-compatible message broker. Without a command it serves: nameserver on 127.0.0.1:9876, broker on
/// 127.0.0.1:10911, data in ./data.
#[derive(Parser)]
#[command(name = "skylark", version)]
struct CommandLine {
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Subcommand)]
enum Command {
    /// Run a broker, with a nameserver inside unless told otherwise
    Serve(Box<serve::Args>),
    /// Run a nameserver alone
    Nameserver(nameserver::Args),
}

/// Runs the command that the arguments ask for.
pub fn main() -> ExitCode {
    let outcome = match CommandLine::parse().command.unwrap_or_else(|| Command::Serve(Box::default())) {
        Command::Serve(args) => serve::run(*args),
        Command::Nameserver(args) => nameserver::run(&args),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("skylark: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Whatever ends a command; its text is all that a person gets to see.
type Failure = Box<dyn std::error::Error>;

/// Starts logging to standard error, as `SKYLARK_LOG` says (`info` by default).
fn log_to_stderr() {
    let filter = tracing_subscriber::EnvFilter::try_from_env("SKYLARK_LOG");
    let filter = filter.unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("info"));
    let logging = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(std::io::stderr().is_terminal())
        .with_writer(std::io::stderr);
    // Fails only if something has installed a logger before, which then stays.
    logging.try_init().ok();
}

//! The command line.

use std::io::IsTerminal;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

mod bench;
mod consume;
mod dlq;
mod lag;
mod log;
mod nameserver;
mod offsets;
mod operator;
mod produce;
mod serve;
mod transactions;

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
    /// Send messages
    Produce(produce::Args),
    /// Print messages as they come
    Consume(consume::Args),
    /// Put load on a broker and measure how it bears it
    Bench(bench::Args),
    /// Show how far consumer groups are behind, and why
    Lag(lag::Args),
    /// Look at transactions that are open, or end them
    Transactions(transactions::Args),
    /// Look at messages that groups gave up, send them again, or give them up for good
    Dlq(dlq::Args),
    /// Look at who moved which group's offsets
    Offsets(offsets::Args),
    /// Look at a data directory, or repair the log in it
    Log(log::Args),
}

/// Runs the command that the arguments ask for.
pub fn main() -> ExitCode {
    let outcome = match CommandLine::parse().command.unwrap_or_else(|| Command::Serve(Box::default())) {
        Command::Serve(args) => serve::run(*args),
        Command::Nameserver(args) => nameserver::run(&args),
        Command::Produce(args) => produce::run(args),
        Command::Consume(args) => consume::run(args),
        Command::Bench(args) => bench::run(args),
        Command::Lag(args) => lag::run(&args),
        Command::Transactions(args) => transactions::run(&args),
        Command::Dlq(args) => dlq::run(&args),
        Command::Offsets(args) => offsets::run(&args),
        Command::Log(args) => return log::run(args),
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
    log_from("info");
}

/// Starts logging what a person at a terminal should know, unless `SKYLARK_LOG` says otherwise.
fn log_warnings_to_stderr() {
    log_from("warn");
}

fn log_from(level: &str) {
    let filter = tracing_subscriber::EnvFilter::try_from_env("SKYLARK_LOG");
    let filter = filter.unwrap_or_else(|_| tracing_subscriber::EnvFilter::new(level));
    let logging = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(std::io::stderr().is_terminal())
        .with_writer(std::io::stderr);
    // Fails only if something has installed a logger before, which then stays.
    logging.try_init().ok();
}

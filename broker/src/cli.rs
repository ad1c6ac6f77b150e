//! The command line.

use std::process::ExitCode;

use clap::{Parser, Subcommand};

pub mod bench;
pub mod consume;
mod nameserver;
pub mod produce;
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
    /// Send messages
    Produce(produce::Args),
    /// Receive messages
    Consume(consume::Args),
    /// Load a broker and report throughput and latency
    Bench(bench::Args),
}

/// Runs the command that the arguments ask for.
pub fn main() -> ExitCode {
    let outcome = match CommandLine::parse().command.unwrap_or_else(|| Command::Serve(Box::default())) {
        Command::Serve(args) => serve::run(*args),
        Command::Nameserver(args) => nameserver::run(&args),
        Command::Produce(args) => with_runtime(produce::run(args)),
        Command::Consume(args) => with_runtime(consume::run(args)),
        Command::Bench(args) => bench::run(args).map_err(Into::into),
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

fn with_runtime<E: Into<Failure>>(command: impl Future<Output = Result<(), E>>) -> Result<(), Failure> {
    tokio::runtime::Builder::new_multi_thread().enable_all().build()?.block_on(command).map_err(Into::into)
}

/// Starts logging to standard error, as `SKYLARK_LOG` says (`info` by default).
fn log_to_stderr() {
    let filter = tracing_subscriber::EnvFilter::try_from_env("SKYLARK_LOG");
    let filter = filter.unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("info"));
    let logging = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    // Fails only if something has installed a logger before, which then stays.
    logging.try_init().ok();
}

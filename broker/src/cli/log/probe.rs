//! `skylark log probe`: what each device comes to in a directory.

use std::io::Write;
use std::path::PathBuf;

use skylark_storage::device::{Directory, probe};

use crate::cli::Failure;

/// What `skylark log probe` takes.
#[derive(clap::Args)]
pub(super) struct Args {
    /// The directory to measure in: of a store, or one on the disk where a store is to be
    #[arg(value_name = "DIR")]
    directory: PathBuf,
}

pub(super) fn run(args: &Args) -> Result<(), Failure> {
    if !args.directory.is_dir() {
        return Err(format!("{} is no directory", args.directory.display()).into());
    }
    let mut out = std::io::stdout().lock();
    for measured in probe(&Directory::open(&args.directory)?)? {
        writeln!(out, "{measured}")?;
    }
    Ok(())
}

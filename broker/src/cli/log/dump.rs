//! `skylark log dump`: what stands where.

use std::io::{BufWriter, ErrorKind, Write};

use clap::ValueEnum;
use skylark_storage::PhysicalOffset;
use skylark_storage::inspect::Format;

use super::{Place, kind_name};
use crate::cli::Failure;

/// What `skylark log dump` takes.
#[derive(clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    place: Place,

    /// Begin at this offset of the log
    #[arg(long, value_name = "OFFSET", default_value_t = 0)]
    from: u64,

    /// End in front of this offset
    #[arg(long, value_name = "OFFSET", default_value_t = u64::MAX, hide_default_value = true)]
    to: u64,

    /// Show payloads
    #[arg(long, value_name = "HOW")]
    payload: Option<Payload>,

    /// Leave out the names of kinds
    #[arg(long)]
    numbers: bool,

    /// Print JSON objects, one a line
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, ValueEnum)]
enum Payload {
    /// As hexadecimal digits
    Hex,
}

pub(super) fn run(args: &Args) -> Result<(), Failure> {
    let files = args.place.files()?;
    let inspection = args.place.inspect(&files)?;
    let format = Format {
        json: args.json,
        payload: matches!(args.payload, Some(Payload::Hex)),
        kind_name: if args.numbers { |_| None } else { kind_name },
    };
    let mut out = BufWriter::new(std::io::stdout().lock());
    let range = PhysicalOffset::new(args.from)..PhysicalOffset::new(args.to);
    let listed = inspection.list(range, |item| format.write(item, &mut out)).and_then(|()| out.flush());
    match listed {
        // Whoever reads has seen enough.
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
        listed => Ok(listed?),
    }
}

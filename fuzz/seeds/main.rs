//! Writes the first corpus of every target, from real bytes: files of logs that were made, rolled, torn and opened
//! several times, index files, and what real clients and brokers send.
//!
//! Run in the repository: `cargo run --manifest-path fuzz/Cargo.toml --example seeds`.

use std::error::Error;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

mod files;
mod filter;
mod wire;

/// Where the corpora are, a directory for each target.
pub struct Corpus(PathBuf);

impl Corpus {
    /// Adds an input.
    pub fn add(&self, target: &str, name: &str, input: &[u8]) -> io::Result<()> {
        let directory = self.0.join(target);
        fs::create_dir_all(&directory)?;
        fs::write(directory.join(name), input)
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let corpus = Corpus(Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus"));
    files::write(&corpus)?;
    filter::write(&corpus)?;
    wire::write(&corpus)
}

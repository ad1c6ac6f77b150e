//! Files in front of other files, to break one thing about them: what a layer says nothing about goes through to those
//! below.
#![allow(dead_code, unreachable_pub, reason = "each test uses a part of this")]

use std::io;
use std::sync::Arc;

use skylark_storage::device::{Advice, Device, Space};
use skylark_storage::{File, Files};

/// What a disk is made to do differently.
pub trait Layer: Send + Sync {
    fn below(&self) -> &dyn Files;

    fn open(&self, name: &str) -> io::Result<Arc<dyn File>> {
        self.below().open(name)
    }

    fn create(&self, name: &str) -> io::Result<Arc<dyn File>> {
        self.below().create(name)
    }

    fn sync_directory(&self, directory: &str) -> io::Result<()> {
        self.below().sync_directory(directory)
    }

    fn device(&self) -> Box<dyn Device> {
        self.below().device()
    }

    fn space(&self) -> io::Result<Space> {
        self.below().space()
    }
}

/// A layer as the files that it makes of those below.
pub struct Layered<L>(pub L);

impl<L: Layer> Files for Layered<L> {
    fn list(&self, directory: &str) -> io::Result<Vec<String>> {
        self.0.below().list(directory)
    }

    fn open(&self, name: &str) -> io::Result<Arc<dyn File>> {
        self.0.open(name)
    }

    fn create(&self, name: &str) -> io::Result<Arc<dyn File>> {
        self.0.create(name)
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.0.below().rename(from, to)
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.0.below().remove(name)
    }

    fn sync_directory(&self, directory: &str) -> io::Result<()> {
        self.0.sync_directory(directory)
    }

    fn lock(&self, name: &str) -> io::Result<Box<dyn Send + Sync>> {
        self.0.below().lock(name)
    }

    fn device(&self) -> Box<dyn Device> {
        self.0.device()
    }

    fn space(&self) -> io::Result<Space> {
        self.0.space()
    }

    fn describe(&self) -> String {
        self.0.below().describe()
    }
}

/// What a file is made to do differently.
pub trait FileLayer: Send + Sync {
    fn below(&self) -> &dyn File;

    fn read_at(&self, at: u64, buffer: &mut [u8]) -> io::Result<usize> {
        self.below().read_at(at, buffer)
    }

    fn write_at(&self, at: u64, bytes: &[u8]) -> io::Result<()> {
        self.below().write_at(at, bytes)
    }

    fn sync(&self) -> io::Result<()> {
        self.below().sync()
    }

    fn advise(&self, at: u64, bytes: u64, advice: Advice) {
        self.below().advise(at, bytes, advice);
    }
}

/// A layer as the file that it makes of the one below.
pub struct LayeredFile<L>(pub L);

impl<L: FileLayer> File for LayeredFile<L> {
    fn read_at(&self, at: u64, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.read_at(at, buffer)
    }

    fn write_at(&self, at: u64, bytes: &[u8]) -> io::Result<()> {
        self.0.write_at(at, bytes)
    }

    fn write_zeros(&self, at: u64, bytes: u64) -> io::Result<()> {
        self.0.below().write_zeros(at, bytes)
    }

    fn len(&self) -> io::Result<u64> {
        self.0.below().len()
    }

    fn set_len(&self, bytes: u64) -> io::Result<()> {
        self.0.below().set_len(bytes)
    }

    fn sync(&self) -> io::Result<()> {
        self.0.sync()
    }

    fn advise(&self, at: u64, bytes: u64, advice: Advice) {
        self.0.advise(at, bytes, advice);
    }
}

//! File systems that are full, or not to be written to. They take root to set up, and are skipped without.

use std::fs;
use std::io;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use skylark_storage::device::{DeviceChoice, DeviceKind, Directory, Files, Operation};
use tempfile::TempDir;

use super::operations::blocks;
use crate::{start, temporary, works};

/// An ext4 of 8 MiB in a file.
struct Small {
    _image: TempDir,
    mounted: TempDir,
}

fn run(program: &str, arguments: &[&str]) -> Result<(), String> {
    let child = start(Command::new(program).args(arguments).stderr(Stdio::piped()));
    let output = child.and_then(Child::wait_with_output).map_err(|error| format!("{program}: {error}"))?;
    let said = String::from_utf8_lossy(&output.stderr);
    if output.status.success() { Ok(()) } else { Err(format!("{program}: {}", said.trim())) }
}

impl Small {
    fn new() -> Result<Self, String> {
        let (image, mounted) = (temporary(), temporary());
        let file = image.path().join("image");
        let created = fs::File::create(&file).and_then(|file| file.set_len(8 << 20));
        created.map_err(|error| error.to_string())?;
        let (file, at) = (file.display().to_string(), mounted.path().display().to_string());
        run("mkfs.ext4", &["-q", &file])?;
        run("mount", &["-o", "loop", &file, &at])?;
        Ok(Self { _image: image, mounted })
    }

    fn path(&self) -> PathBuf {
        self.mounted.path().join("data")
    }

    fn remount_read_only(&self) -> Result<(), String> {
        run("mount", &["-o", "remount,ro", &self.mounted.path().display().to_string()])
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        if let Err(error) = run("umount", &["-l", &self.mounted.path().display().to_string()]) {
            println!("{error}");
        }
    }
}

#[test]
fn a_file_system_that_takes_no_more_is_named() {
    let small = match Small::new() {
        Ok(small) => small,
        Err(reason) => return println!("skipped: {reason}"),
    };
    let open = |kind| Directory::open(small.path()).unwrap().with_device(DeviceChoice::Fixed(kind));
    let kinds: Vec<DeviceKind> =
        DeviceKind::ALL.iter().copied().filter(|kind| works(*kind, open(*kind).check_device())).collect();
    for &kind in &kinds {
        let directory = open(kind);
        directory.create("log/a").unwrap();
        let mut device = directory.device();
        device.attach("log/a").unwrap();
        let group = blocks(&vec![7; 256 << 10]);
        let mut at = 0;
        let refused = loop {
            assert!(at < 16 << 20, "{kind} has written more than there is room for");
            let pieces = [group.slice(..group.len() - 4096), group.slice(group.len() - 4096..)];
            device.submit(Operation { at, pieces: pieces.into_iter().collect(), flush: true });
            match device.complete().unwrap().1 {
                Ok(()) => at += group.len() as u64,
                Err(error) => break error,
            }
        };
        assert_eq!(refused.kind(), io::ErrorKind::StorageFull, "{kind}: {refused}");
        assert!(refused.to_string().contains("data/log/a"), "{refused}");
        drop(device);
        directory.remove("log/a").unwrap();
        directory.sync_directory("log").unwrap();
        directory.check_device().unwrap();
    }
    for &kind in &kinds {
        open(kind).create(&format!("log/{kind}")).unwrap();
    }
    small.remount_read_only().unwrap();
    for &kind in &kinds {
        let name = format!("log/{kind}");
        let refused = open(kind).device().attach(&name).unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::ReadOnlyFilesystem, "{kind}: {refused}");
        assert!(refused.to_string().contains(&name), "{refused}");
        let refused = open(kind).check_device().unwrap_err();
        assert!(refused.to_string().contains("data/log/"), "{refused}");
    }
}

//! Real file systems of a fixed size, for tests of what happens when they are full.
//!
//! A test runs itself again as root of a mount and a process namespace of its own, and mounts there. Whatever becomes
//! of it, the mount and every process it started end with the namespaces; nobody else ever sees them.
//!
//! Without root, `unshare`, `mkfs.ext4` or loop devices a test is skipped, and says why, unless
//! `SKYLARK_FULL_DISK=required`.

#![allow(unreachable_pub, reason = "the modules of a test export to nobody")]

use std::ffi::OsStr;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

/// What kind of file system, and how large.
#[derive(Clone, Copy, Debug)]
pub enum SmallDisk {
    /// In an image file, by a loop device: has a journal, keeps blocks for itself, transfers directly.
    Ext4 { megabytes: u64 },
    /// In memory: the last byte can be used.
    Tmpfs { megabytes: u64 },
}

/// Tells the inner run where to mount, and that it is one.
const INSIDE: &str = "SKYLARK_SMALL_DISK";
/// A hang, not a slow machine, is what this bounds.
const ENDS_WITHIN: Duration = Duration::from_secs(300);

impl SmallDisk {
    /// Runs `scenario` with the file system mounted on `point`, a directory that exists, or on one of its own. `test` is
    /// the full name of the calling test, which is to do nothing else: it is run again by that name.
    pub fn run(self, test: &str, point: Option<&Path>, scenario: impl FnOnce(&Path)) {
        if let Some(image) = std::env::var_os(INSIDE).map(PathBuf::from) {
            let own = image.with_file_name("disk");
            let point = point.unwrap_or(&own);
            self.mount(&image, point);
            return scenario(point);
        }
        if let Some(why) = self.missing() {
            assert!(
                std::env::var_os("SKYLARK_FULL_DISK").as_deref() != Some(OsStr::new("required")),
                "the full disk cannot be tested: {why}"
            );
            println!("skipped: {why}");
            return;
        }
        let directory = tempfile::tempdir().expect("there is a directory for temporary files");
        let image = directory.path().join("image");
        fs::create_dir(directory.path().join("disk")).expect("a mount point can be created");
        self.make(&image);
        self.run_inside(test, &image, &directory.path().join("output"));
    }

    fn missing(self) -> Option<String> {
        let uid = fs::metadata("/proc/self").map(|me| me.uid());
        if !matches!(uid, Ok(0)) {
            return Some("only root may mount".to_owned());
        }
        let tools: &[&str] = match self {
            Self::Ext4 { .. } => &["unshare", "mount", "mkfs.ext4"],
            Self::Tmpfs { .. } => &["unshare", "mount"],
        };
        let is_missing = |tool: &&&str| {
            let version = if **tool == "mkfs.ext4" { "-V" } else { "--version" };
            let run = Command::new(tool).arg(version).stdout(Stdio::null()).stderr(Stdio::null()).status();
            !run.is_ok_and(|status| status.success())
        };
        if let Some(tool) = tools.iter().find(is_missing) {
            return Some(format!("there is no {tool}"));
        }
        let namespaces = Command::new("unshare").args(["--mount", "--pid", "--fork", "true"]).status();
        if !namespaces.is_ok_and(|status| status.success()) {
            return Some("namespaces cannot be made here".to_owned());
        }
        let needs_loop = matches!(self, Self::Ext4 { .. });
        (needs_loop && !Path::new("/dev/loop-control").exists())
            .then(|| "there are no loop devices".to_owned())
    }

    fn make(self, image: &Path) {
        if let Self::Ext4 { megabytes } = self {
            let file = File::create(image).expect("an image can be created");
            file.set_len(megabytes << 20).expect("an image can be sized");
            // Everything that ext4 does later on its own is done now, so that its space does not change by itself.
            let options =
                ["-q", "-F", "-m", "0", "-J", "size=4", "-E", "lazy_itable_init=0,lazy_journal_init=0"];
            run(Command::new("mkfs.ext4").args(options).arg(image));
        } else {
            File::create(image).expect("a marker can be created");
        }
    }

    fn mount(self, image: &Path, point: &Path) {
        let mut mount = Command::new("mount");
        match self {
            Self::Ext4 { .. } => mount.args(["-o", "loop"]).arg(image).arg(point),
            Self::Tmpfs { megabytes } => {
                mount.args(["-t", "tmpfs", "-o", &format!("size={megabytes}m"), "skylark"]).arg(point)
            }
        };
        run(&mut mount);
    }

    fn run_inside(self, test: &str, image: &Path, output: &Path) {
        let file = File::create(output).expect("the output can be kept");
        let namespaces =
            ["--mount", "--propagation", "private", "--pid", "--fork", "--kill-child", "--mount-proc", "--"];
        let mut command = Command::new("unshare");
        command.args(namespaces).arg(std::env::current_exe().expect("a test knows where it is"));
        command.args([test, "--exact", "--nocapture", "--test-threads=1"]).env(INSIDE, image);
        command.stdin(Stdio::null()).stderr(file.try_clone().expect("a file can be shared")).stdout(file);
        let mut child = command.spawn().expect("unshare was there a moment ago");
        let deadline = Instant::now() + ENDS_WITHIN;
        let status = loop {
            match child.try_wait().expect("a child can be waited for") {
                Some(status) => break Some(status),
                None if Instant::now() >= deadline => {
                    // Takes the namespaces along, and everybody in them.
                    child.kill().expect("a child can be killed");
                    child.wait().expect("a killed child ends");
                    break None;
                }
                None => thread::sleep(Duration::from_millis(20)),
            }
        };
        let said = fs::read_to_string(output).unwrap_or_default();
        println!("{said}");
        match status {
            Some(status) => assert!(status.success(), "on {self:?}: {status}"),
            None => panic!("on {self:?}: not done within {ENDS_WITHIN:?}"),
        }
        assert!(said.contains("1 passed"), "there is no test {test}");
    }
}

fn run(command: &mut Command) {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
}

/// Somebody else's file, which takes space. Dropped, it gives the space back.
pub struct Filler(PathBuf);

impl Filler {
    /// Takes so much.
    pub fn of(path: PathBuf, bytes: u64) -> Self {
        let filler = Self(path);
        filler.write(bytes).expect("there is space for the filler");
        filler
    }

    /// Takes everything to the last byte; returns how much that was, too.
    pub fn all(path: PathBuf) -> (Self, u64) {
        let filler = Self(path);
        let mut taken = 0;
        // Whole pieces first, then what is left of one, and again while the file system finds something more.
        for piece in [1 << 20, 64 << 10, 4096, 512, 1] {
            while filler.write(piece).is_ok() {
                taken += piece;
            }
        }
        (filler, taken)
    }

    fn write(&self, bytes: u64) -> io::Result<()> {
        let mut file = OpenOptions::new().create(true).append(true).open(&self.0)?;
        let before = file.metadata()?.len();
        let piece = vec![0x5a; usize::try_from(bytes).expect("fillers fit into memory").min(1 << 20)];
        let mut left = bytes;
        while left > 0 {
            let length = usize::try_from(left).unwrap_or(usize::MAX).min(piece.len());
            // Where the disk allocates late, the flush says that there is no space.
            if let Err(error) = file.write_all(&piece[..length]).and_then(|()| file.sync_data()) {
                file.set_len(before)?;
                return Err(error);
            }
            left -= length as u64;
        }
        Ok(())
    }
}

impl Drop for Filler {
    fn drop(&mut self) {
        fs::remove_file(&self.0).expect("a filler can be removed");
    }
}

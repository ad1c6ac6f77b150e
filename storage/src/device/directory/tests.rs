use bytes::Bytes;

use super::super::Operation;
use super::*;

fn directory() -> (tempfile::TempDir, Directory) {
    let temporary = tempfile::tempdir().unwrap();
    let directory = Directory::open(temporary.path().join("data")).unwrap();
    (temporary, directory)
}

#[test]
fn pieces_of_any_length_land_one_behind_the_other() {
    let (_temporary, directory) = directory();
    directory.create("log/a").unwrap();
    let mut device = directory.device_of(DeviceKind::Buffered);
    device.attach("log/a").unwrap();
    let pieces = ["one", "", "two", "three"].map(|piece| Bytes::from_static(piece.as_bytes()));
    let ticket = device.submit(Operation { at: 4096, pieces: pieces.into_iter().collect(), flush: true });
    let (done, outcome) = device.complete().unwrap();
    assert_eq!((done, outcome.is_ok()), (ticket, true));
    assert!(device.complete().is_none());

    let mut read = [0; 32];
    let file = directory.open("log/a").unwrap();
    assert_eq!(file.read_at(4096, &mut read).unwrap(), 11, "a read ends where the file does");
    assert_eq!(&read[..11], b"onetwothree");
    assert_eq!(file.len().unwrap(), 4096 + 11);
}

#[test]
fn a_lock_excludes_others_until_it_drops() {
    let (_temporary, directory) = directory();
    let held = directory.lock("LOCK").unwrap();
    let refused = directory.lock("LOCK").err().unwrap();
    assert_eq!(refused.kind(), io::ErrorKind::WouldBlock);
    assert!(refused.to_string().contains("LOCK"), "{refused}");
    drop(held);
    directory.lock("LOCK").unwrap();
}

#[test]
fn names_come_and_go() {
    let (_temporary, directory) = directory();
    assert_eq!(directory.list("log").unwrap(), Vec::<String>::new(), "an absent directory is an empty one");
    directory.create("log/a").unwrap().write_at(2, b"x").unwrap();
    assert_eq!(directory.create("log/a").err().unwrap().kind(), io::ErrorKind::AlreadyExists);
    directory.rename("log/a", "log/b").unwrap();
    directory.sync_directory("log").unwrap();
    assert_eq!(directory.list("log").unwrap(), ["b"]);
    let file = directory.open("log/b").unwrap();
    file.set_len(5).unwrap();
    file.sync().unwrap();
    let mut read = [9; 8];
    assert_eq!(file.read_at(0, &mut read).unwrap(), 5);
    assert_eq!(&read[..5], &[0, 0, b'x', 0, 0]);
    directory.remove("log/b").unwrap();
    let missing = directory.open("log/b").err().unwrap();
    assert_eq!(missing.kind(), io::ErrorKind::NotFound);
    assert!(missing.to_string().contains("log/b"), "{missing}");
}

#[test]
fn a_directory_knows_its_room() {
    let (_temporary, directory) = directory();
    let Space { total_bytes, available_bytes } = directory.space().unwrap();
    assert!(total_bytes > 0 && available_bytes <= total_bytes);
}

#[test]
fn what_is_set_aside_for_others_is_no_use_of_the_disk() {
    let (temporary, _directory) = directory();
    let mut found = rustix::fs::statvfs(temporary.path()).unwrap();
    found.f_frsize = 4096;
    // A hundred blocks, 30 of them in use and 50 set aside.
    (found.f_blocks, found.f_bfree, found.f_bavail) = (100, 70, 20);
    let space = space_in(&found);
    assert_eq!(space, Space { total_bytes: 50 * 4096, available_bytes: 20 * 4096 });
    assert!((space.used_percent() - 60.0).abs() < 1e-9);
}

/// Keeps a directory, and says what was flushed for that; flushes come to `outcome`.
fn keep(
    directory: &Directory,
    path: &Path,
    outcome: impl Fn() -> io::Result<()>,
) -> (io::Result<()>, Vec<PathBuf>) {
    let flushed = Mutex::new(Vec::new());
    let kept = directory.keep(path, &|flush: &Path| {
        flushed.lock().push(flush.to_owned());
        outcome()
    });
    (kept, flushed.into_inner())
}

#[test]
fn the_name_of_a_directory_that_somebody_else_made_is_made_durable_once() {
    let (temporary, directory) = directory();
    let root = temporary.path().join("data");
    // As a process leaves it that was killed behind the creation of either.
    for path in [root.join("log"), root.join("x/y")] {
        fs::create_dir_all(&path).unwrap();
        let above = path.parent().unwrap().to_owned();
        let (kept, flushed) = keep(&directory, &path, || Ok(()));
        assert_eq!((kept.is_ok(), flushed), (true, vec![above.clone()]));
        assert_eq!(keep(&directory, &path, || Ok(())).1, Vec::<PathBuf>::new(), "it is known");
        // Gone by somebody else's hand.
        fs::remove_dir(&path).unwrap();
        let (kept, flushed) = keep(&directory, &path, || Ok(()));
        assert!(kept.is_ok() && path.is_dir());
        assert_eq!(flushed.last(), Some(&above));
    }
    // The lowest one that is there, and each that is made, before the next.
    let (_, flushed) = keep(&directory, &root.join("x/z/a"), || Ok(()));
    assert_eq!(flushed, [root.clone(), root.join("x"), root.join("x/z")]);
    assert!(directory.kept.lock().contains(&root), "an opening does the same for the directory itself");
}

#[test]
fn a_directory_above_that_nobody_may_flush_keeps_no_log_from_opening() {
    let (temporary, directory) = directory();
    for (number, (kind, is_refused)) in [
        (io::ErrorKind::PermissionDenied, false),
        (io::ErrorKind::InvalidInput, false),
        (io::ErrorKind::Unsupported, false),
        (io::ErrorKind::StorageFull, true),
        (io::ErrorKind::Other, true),
    ]
    .into_iter()
    .enumerate()
    {
        let path = temporary.path().join(number.to_string());
        let fails = || Err(kind.into());
        assert!(keep(&directory, &path, fails).0.is_err(), "who makes it is to know: {kind}");
        fs::create_dir_all(&path).unwrap();
        assert_eq!(keep(&directory, &path, fails).0.is_err(), is_refused, "{kind}");
    }
}

#[test]
fn directories_are_created_on_the_way_unless_a_file_is_in_it() {
    let (temporary, directory) = directory();
    directory.create("snapshots/a").unwrap();
    directory.create("x/y/z").unwrap();
    assert!(temporary.path().join("data/x/y/z").is_file());
    let refused = directory.create("snapshots/a/b").err().unwrap();
    assert!(refused.to_string().contains("snapshots/a"), "{refused}");
    assert!(Directory::open(temporary.path().join("data/x/y/z")).is_err());
}

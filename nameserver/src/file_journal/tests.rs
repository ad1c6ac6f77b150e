use skylark_storage::device::simulated::Disk;

use super::*;

fn put(key: &str, value: &str) -> KvChange {
    KvChange::Put { namespace: "ORDER_TOPIC_CONFIG".to_owned(), key: key.to_owned(), value: value.to_owned() }
}

fn delete(key: &str) -> KvChange {
    KvChange::Delete { namespace: "ORDER_TOPIC_CONFIG".to_owned(), key: key.to_owned() }
}

fn open(disk: &Disk) -> (FileJournal, KvTables) {
    FileJournal::open(Arc::new(disk.clone())).unwrap()
}

fn contents(disk: &Disk) -> String {
    let file = disk.open(FILE).unwrap();
    let mut text = vec![0; usize::try_from(file.len().unwrap()).unwrap()];
    file.read_at(0, &mut text).unwrap();
    String::from_utf8(text).unwrap()
}

fn refusal(disk: &Disk) -> String {
    match FileJournal::open(Arc::new(disk.clone())) {
        Ok(_) => panic!("the journal was opened"),
        Err(error) => error.to_string(),
    }
}

#[test]
fn what_is_recorded_is_there_after_a_power_cut_in_apache_s_text() {
    let disk = Disk::new(1);
    let (mut journal, none) = open(&disk);
    assert_eq!(none, KvTables::default());
    for change in [put("T", "broker-a:4"), put("gone", "x"), delete("gone"), put("T", "broker-a:8")] {
        assert!(matches!(journal.record(&change), Ok(Recorded::Now)));
    }
    let disk = disk.crash();
    assert_eq!(contents(&disk), r#"{"configTable":{"ORDER_TOPIC_CONFIG":{"T":"broker-a:8"}}}"#);
    let (_, tables) = open(&disk);
    assert_eq!(tables.get("ORDER_TOPIC_CONFIG", "T"), Some("broker-a:8"));
}

#[test]
fn a_power_cut_at_any_moment_leaves_the_configuration_before_or_after() {
    let (mut before, mut after) = (0, 0);
    for seed in 0..200 {
        let disk = Disk::new(seed);
        let (mut journal, _) = open(&disk);
        journal.record(&put("T", "old")).unwrap();
        disk.power_off_at(1 + seed % 8);
        let recorded = journal.record(&put("T", "new"));
        drop(journal);
        let (_, tables) = open(&disk.crash());
        match (tables.get("ORDER_TOPIC_CONFIG", "T"), &recorded) {
            (Some("old"), Err(_)) => before += 1,
            (Some("new"), Ok(_) | Err(JournalError::Unknown { .. })) => after += 1,
            (found, _) => panic!("{found:?} after a power cut, {recorded:?}, seed {seed}"),
        }
    }
    assert!(before > 0 && after > 0, "{before} before, {after} after");
}

#[test]
fn a_failed_write_leaves_what_was_there() {
    let disk = Disk::new(1);
    let (mut journal, _) = open(&disk);
    journal.record(&put("T", "old")).unwrap();
    disk.set_space_left(Some(0));
    let refused = journal.record(&put("T", "new")).unwrap_err();
    assert!(matches!(refused, JournalError::Refused { .. }), "{refused}");
    disk.set_space_left(None);
    journal.record(&put("U", "x")).unwrap();
    drop(journal);
    let (_, tables) = open(&disk.crash());
    assert_eq!(tables.get("ORDER_TOPIC_CONFIG", "T"), Some("old"));
    assert_eq!(tables.get("ORDER_TOPIC_CONFIG", "U"), Some("x"));
}

#[test]
fn a_damaged_file_is_named_and_kept() {
    for text in ["", "{", r#"{"configTable":3}"#, r#"{"configTable":{"n":{"k":1}}}"#, "{}"] {
        let disk = Disk::new(1);
        disk.create(FILE).unwrap().write_at(0, text.as_bytes()).unwrap();
        let refusal = refusal(&disk);
        assert!(refusal.starts_with("kvConfig.json in ") && refusal.contains(" is damaged: "), "{refusal}");
        assert_eq!(contents(&disk), text);
    }
    let disk = Disk::new(1);
    disk.create(FILE).unwrap().set_len(FILE_BYTES_MAX + 1).unwrap();
    assert!(refusal(&disk).contains("it has 67108865 bytes"));
}

#[test]
fn two_nameservers_do_not_share_a_directory() {
    let disk = Disk::new(1);
    let (journal, _) = open(&disk);
    assert!(refusal(&disk).ends_with("is used by another nameserver"));
    drop(journal);
    open(&disk);
}

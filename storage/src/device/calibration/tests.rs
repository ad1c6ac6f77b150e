use super::*;

fn measured(figures: &[(DeviceKind, [u64; 3])]) -> Vec<Measured> {
    let medians = |figures: [u64; 3]| Ok(figures.map(Duration::from_micros));
    figures.iter().map(|&(kind, figures)| Measured { kind, medians: medians(figures) }).collect()
}

fn check_choice(buffered: [u64; 3], direct: [u64; 3], incumbent: DeviceKind, expected: DeviceKind) {
    let measured = measured(&[(DeviceKind::Buffered, buffered), (DeviceKind::Direct, direct)]);
    assert_eq!(choose(&measured, incumbent), expected, "{measured:?}, after {incumbent}");
}

#[test]
fn the_choice_is_the_one_that_is_never_far_behind() {
    use DeviceKind::{Buffered, Direct};
    check_choice([100, 200, 900], [99, 150, 500], Buffered, Direct);
    check_choice([100, 200, 500], [140, 210, 490], Direct, Buffered);
    // Twice as fast for the lone sender, and a little slower for the crowd.
    check_choice([200, 200, 500], [100, 200, 550], Buffered, Direct);
    // Whoever is in use stays for as little as chance.
    check_choice([100, 200, 500], [98, 199, 499], Buffered, Buffered);
    check_choice([100, 200, 500], [98, 199, 499], Direct, Direct);
    check_choice([100, 200, 500], [102, 201, 501], Direct, Direct);
}

#[test]
fn what_cannot_be_used_is_not_chosen() {
    let mut measured = measured(&[(DeviceKind::Buffered, [100, 200, 500])]);
    measured.push(Measured { kind: DeviceKind::Direct, medians: Err("refused".to_owned()) });
    assert_eq!(choose(&measured, DeviceKind::Direct), DeviceKind::Buffered);
    assert_eq!(choose(&[], DeviceKind::Direct), DeviceKind::Buffered);
}

fn calibration() -> Calibration {
    let mut measured = measured(&[(DeviceKind::Buffered, [100, 200, 500])]);
    measured.push(Measured { kind: DeviceKind::Direct, medians: Err("said: no (22)".to_owned()) });
    let machine = Machine { release: "0.1.0".into(), kernel: "6.18.1-x".into(), file_system: 0xfe00 };
    Calibration { machine, measured, measured_at: 1_700_000_000_000, choice: DeviceKind::Buffered }
}

#[test]
fn a_record_says_what_was_measured() {
    let text = calibration().to_text();
    let expected = "skylark-storage device calibration 2\n\
        release 0.1.0\n\
        kernel 6.18.1-x\n\
        file-system fe00\n\
        measured-at 1700000000000\n\
        nanoseconds buffered 4096=100000 65536=200000 524288=500000\n\
        unusable direct said: no (22)\n\
        choice buffered\n";
    assert_eq!(text, format!("{expected}crc32c {:08x}\n", crc32c(expected.as_bytes())));
    assert_eq!(Calibration::parse(&text), Some(calibration()));
}

#[test]
fn a_record_is_gone_by_for_a_week() {
    const DAY_MS: u64 = 24 * 3_600_000;
    let recorded = calibration();
    let after = |ms: u64| recorded.is_outdated(recorded.measured_at + ms);
    assert!(!after(0) && !after(7 * DAY_MS - 1));
    assert!(after(7 * DAY_MS));
    assert!(recorded.is_outdated(recorded.measured_at - 1), "who knows when that was");
}

#[test]
fn a_record_that_was_damaged_is_none() {
    let text = calibration().to_text();
    for at in 0..text.len() {
        let mut damaged = text.clone().into_bytes();
        damaged[at] ^= 1;
        let damaged = String::from_utf8(damaged).unwrap();
        assert_eq!(Calibration::parse(&damaged), None, "byte {at}");
        assert_eq!(Calibration::parse(&text[..at]), None, "cut at {at}");
    }
}

#[test]
fn a_record_is_replaced_whole_and_one_that_is_none_is_not_believed() {
    let temporary = tempfile::tempdir().unwrap();
    let directory = Directory::open(temporary.path()).unwrap();
    assert_eq!(Calibration::load(&directory), None);
    // Left by a process that ended while it wrote one.
    directory.create(NEW_NAME).unwrap().write_at(0, b"half").unwrap();
    calibration().store(&directory).unwrap();
    assert_eq!(Calibration::load(&directory), Some(calibration()));
    assert_eq!(directory.calibration(), None, "of another kernel, on another file system");
    directory.open(NAME).unwrap().set_len(100).unwrap();
    assert_eq!(Calibration::load(&directory), None);
    directory.open(NAME).unwrap().set_len(1 << 40).unwrap();
    assert_eq!(Calibration::load(&directory), None);
}

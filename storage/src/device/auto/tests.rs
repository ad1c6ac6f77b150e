use bytes::Bytes;
use smallvec::smallvec;

use super::*;
use crate::device::{DeviceChoice, Files, Measured, aligned};
use crate::segment::BLOCK;

fn directory() -> (tempfile::TempDir, Directory) {
    let temporary = tempfile::tempdir().unwrap();
    let directory = Directory::open(temporary.path()).unwrap();
    (temporary, directory)
}

fn write(device: &mut dyn Device, number: u8) {
    let block: Bytes = aligned::blocks([[number; BLOCK]]);
    device.submit(Operation { at: 0, pieces: smallvec![block], flush: false });
    device.complete().unwrap().1.unwrap();
}

#[test]
fn a_calibration_measures_chooses_and_is_remembered() {
    let (temporary, directory) = directory();
    assert_eq!(directory.chosen_device(), DeviceKind::Buffered, "nobody has measured");
    assert_eq!(directory.calibration(), None);
    // What an earlier one left when its process ended.
    directory.create("log/probe-direct").unwrap();
    let calibration = directory.calibrate().unwrap();
    let kinds: Vec<DeviceKind> = calibration.measured.iter().map(|measured| measured.kind).collect();
    assert_eq!(kinds, DeviceKind::ALL);
    let Measured { medians: Ok(buffered), .. } = &calibration.measured[0] else {
        panic!("it works everywhere")
    };
    assert!(buffered.iter().all(|median| !median.is_zero()));
    assert_eq!(directory.chosen_device(), calibration.choice);
    assert_eq!(directory.list("log").unwrap(), Vec::<String>::new(), "its files are gone");

    let another = Directory::open(temporary.path()).unwrap();
    assert_eq!(another.chosen_device(), calibration.choice);
    assert_eq!(another.calibration(), Some(calibration));
}

#[test]
fn a_start_measures_only_what_is_not_known() {
    let (temporary, directory) = directory();
    let first = directory.calibrate_if_due().unwrap();
    let again = Directory::open(temporary.path()).unwrap();
    assert_eq!(again.calibrate_if_due().unwrap(), first, "to the nanosecond: nothing was measured");
    assert_eq!(again.chosen_device(), first.choice);

    let mut old = first.clone();
    old.measured_at -= 8 * 24 * 3_600_000;
    old.store(&directory).unwrap();
    assert!(again.calibrate_if_due().unwrap().measured_at >= first.measured_at);
    let mut elsewhere = first.clone();
    elsewhere.machine.file_system ^= 1;
    elsewhere.store(&directory).unwrap();
    assert_eq!(again.calibrate_if_due().unwrap().machine, first.machine);
}

#[test]
fn a_choice_takes_effect_at_the_next_segment() {
    let (_temporary, directory) = directory();
    for name in ["a", "b"] {
        directory.create(name).unwrap();
    }
    let mut device = AutoDevice::new(directory.clone());
    device.attach("a").unwrap();
    directory.choose(DeviceKind::Direct);
    write(&mut device, 1);
    assert_eq!(device.kind, DeviceKind::Buffered);
    device.attach("b").unwrap();
    write(&mut device, 2);
    // Where direct transfers are refused, what was used before goes on.
    assert_eq!(device.kind, directory.chosen_device());
    let mut read = [0];
    directory.open("b").unwrap().read_at(0, &mut read).unwrap();
    assert_eq!(read, [2]);
}

#[test]
fn a_choice_that_cannot_be_used_any_more_is_given_up() {
    // A file that no file system transfers directly.
    let devices = Directory::open("/dev").unwrap();
    devices.choose(DeviceKind::Direct);
    let mut device = devices.device();
    device.attach("null").unwrap();
    write(&mut *device, 1);
    assert_eq!(devices.chosen_device(), DeviceKind::Buffered);
    // Whoever asked for it in so many words is told.
    let direct = devices.with_device(DeviceChoice::Fixed(DeviceKind::Direct));
    let error = direct.device().attach("null").unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::Unsupported);
    assert!(error.to_string().contains("/dev/null"), "{error}");
}

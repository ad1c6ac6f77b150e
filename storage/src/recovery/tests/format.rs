use super::*;
use crate::epoch::Cause;
use crate::group::GroupHeader;
use crate::recovery::group_check::{CheckedGroup, check_group};
use crate::segment::{BLOCK_BYTES, SegmentHeader};

/// The hex dumps of the format's description, in order.
fn examples() -> Vec<Vec<u8>> {
    let text = include_str!("../../../FORMAT.md");
    let dump =
        |block: &str| block.split_whitespace().map(|byte| u8::from_str_radix(byte, 16).unwrap()).collect();
    let (_, examples) = text.split_once("## Examples").unwrap();
    examples.split("```text").skip(1).map(|rest| dump(rest.split("```").next().unwrap())).collect()
}

#[test]
fn the_examples_of_the_description_are_a_sound_log() {
    let [segment, groups @ .., checkpoint] = &examples()[..] else { panic!("the description has examples") };
    let segment = SegmentHeader::parse(segment).unwrap().fields();
    let seed = segment.log_id.seed();
    let limit = segment.base.advance(segment.segment_bytes);
    let mut at = segment.base.advance(BLOCK_BYTES);
    let groups: Vec<CheckedGroup> = groups
        .iter()
        .map(|bytes| {
            let header = GroupHeader::parse(seed, at, bytes).unwrap();
            let group = check_group(seed, at, &header, bytes, limit).unwrap();
            at = group.stored_end;
            group
        })
        .collect();
    let [opening, records, padding] = &groups[..] else { panic!("three groups") };

    assert_eq!((segment.epoch, segment.epoch_start), (opening.first_epoch, opening.starts[0].start));
    let previous = Some(EpochStart { epoch: Epoch::new(2), start: PhysicalOffset::new(4112) });
    assert_eq!((opening.starts[0].previous, opening.starts[0].cause), (previous, Cause::Opened));
    assert_eq!(opening.attested_end, PhysicalOffset::new(69632 - 24));
    assert_eq!((records.chain, padding.chain), (opening.next_chain, records.next_chain));
    assert_eq!((padding.end, padding.stored_end), (limit, PhysicalOffset::new(69808 + 48)));

    let checkpoint: Vec<u8> = checkpoint.iter().copied().chain(std::iter::repeat_n(0, 4096 - 112)).collect();
    let checkpoint = Checkpoint::from_slot(checkpoint.as_slice().try_into().unwrap()).unwrap();
    assert_eq!((checkpoint.durable_end, checkpoint.chain), (limit, padding.next_chain));
    assert_eq!((checkpoint.epoch, checkpoint.epoch_start), (segment.epoch, segment.epoch_start));
    assert!(checkpoint.clean && checkpoint.generation == 7 && checkpoint.log_id == segment.log_id);
}

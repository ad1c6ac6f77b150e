#!/usr/bin/env python3
"""Lists a commit log as FORMAT.md describes it: every record, group, gap, damage and cut.

Written from that description alone, with nothing but the standard library. `format_reader.py DIRECTORY` prints what
`skylark log dump --numbers DIRECTORY` prints.
"""

import copy
import os
import re
import struct
import sys

BLOCK = 4096
GROUP_HEADER = 16
RECORD_HEADER = 32
GROUP_BYTES_MAX = 8 << 20
SEARCH_BYTES = 64 << 20
CLOSING_BYTES = 48
PADDING, EPOCH, FIRST_FREE = 0, 1, 16
NO_EPOCH = (0, 0)


def _table():
    table = []
    for byte in range(256):
        for _ in range(8):
            byte = (byte >> 1) ^ 0x82F63B78 if byte & 1 else byte >> 1
        table.append(byte)
    return table


TABLE = _table()


def crc32c(data, start=0):
    """CRC32C of `data`, continuing a checksum whose value so far is `start`."""
    table, crc = TABLE, start ^ 0xFFFFFFFF
    for byte in data:
        crc = table[(crc ^ byte) & 0xFF] ^ (crc >> 8)
    return crc ^ 0xFFFFFFFF


def up(number, unit):
    return -(-number // unit) * unit


def down(number, unit):
    return number // unit * unit


def segment_name(base):
    return f"log/{base:020}.seg"


class Checkpoint:
    FIELDS = struct.Struct("<8sII16sQQQQQQQQIIII")

    def __init__(self, data):
        (_, _, flags, self.log_id, self.generation, self.segment_bytes, self.durable_end, self.oldest_segment,
         self.newest_segment, self.led_from, self.epoch_start, self.stored_at, self.epoch, self.highest_epoch,
         self.chain, _) = self.FIELDS.unpack(data[:112])
        self.clean = flags & 1

    def contradicts_itself(self, slot):
        size = self.segment_bytes
        return not (
            is_segment_length(size)
            and self.newest_segment < 1 << 62
            and self.oldest_segment % size == 0
            and self.newest_segment % size == 0
            and self.oldest_segment <= self.newest_segment
            and self.oldest_segment <= self.durable_end <= self.newest_segment + size
            and self.durable_end % 8 == 0
            and not 0 < self.durable_end % size <= BLOCK
            and (self.epoch > 0 or self.durable_end % size == 0)
            and self.epoch <= self.highest_epoch < (1 << 32) - 3
            and self.epoch_start <= self.durable_end
            and self.generation % 2 == slot
        )


def is_segment_length(size):
    return 64 << 10 <= size <= 2 << 30 and size % BLOCK == 0


def read_slot(data, slot):
    """The state of a slot, and the checkpoint if it is sound."""
    if not any(data):
        return "empty", None
    magic, version, flags = struct.unpack_from("<8sII", data)
    if magic != b"SKYLKCKP":
        return "magic", None
    if crc32c(data[:108]) != struct.unpack_from("<I", data, 108)[0]:
        return "crc", None
    if version != 1:
        return "version", None
    if flags & ~1 or any(data[112:]):
        return "not-zero", None
    checkpoint = Checkpoint(data)
    return ("contradiction", None) if checkpoint.contradicts_itself(slot) else ("sound", checkpoint)


class SegmentHeader:
    """What a first block says; `state` is `blank`, `damaged`, `version` or `sound`."""

    def __init__(self, block):
        self.rest_is_zero = not any(block[72:])
        if not any(block):
            self.state = "blank"
            return
        self.state = "damaged"
        if len(block) < 72 or block[:8] != b"SKYLKSEG":
            return
        (_, version, self.epoch, self.log_id, self.base, self.segment_bytes, self.created_at, self.epoch_start,
         zero, crc) = struct.unpack_from("<8sII16sQQQQII", block)
        if crc != crc32c(block[:68]):
            return
        if version != 1:
            self.state = "version"
        elif zero == 0:
            self.state = "sound"


class Record:
    """The fields of a record's header."""

    def __init__(self, data):
        (self.payload_bytes, self.kind, self.head_bytes, self.zero, self.physical_offset, self.epoch,
         self.stored_at_delta, self.header_crc, self.payload_crc) = struct.unpack_from("<IBBHQIIII", data)

    @property
    def stored_bytes(self):
        return RECORD_HEADER if self.kind == PADDING else up(RECORD_HEADER + self.payload_bytes, 8)


class Group:
    """A group's sixteen bytes, and, of one that was checked, what it says."""

    def __init__(self, data):
        self.header = bytes(data[:GROUP_HEADER])
        self.bytes, self.undurable_bytes, self.chain, self.crc = struct.unpack(f"<IIII", self.header)


class Segment:
    """A segment's file. What it lacks counts as zeros, or is not there, as the reader asks."""

    def __init__(self, root, base):
        self.base = base
        try:
            with open(os.path.join(root, segment_name(base)), "rb") as file:
                self.data = file.read()
        except FileNotFoundError:
            self.data = None

    @property
    def is_missing(self):
        return self.data is None

    def filled(self, at, count):
        data = self.data[at - self.base:at - self.base + count]
        return data + bytes(count - len(data))

    def held(self, at, count):
        return b"" if self.data is None else self.data[at - self.base:at - self.base + count]


class NoLog(Exception):
    pass


class Listing:
    """A data directory, and what is known on the way through its log."""

    def __init__(self, root, out):
        self.root, self.out = root, out
        self.segment = None
        self.read_directory()
        self.seed = crc32c(self.checkpoint.log_id)
        self.size = self.checkpoint.segment_bytes
        # Where the walk is, and what the next group has to fit to; None is not known.
        self.end, self.chain, self.epoch, self.lost = 0, None, None, False

    # Lines.

    def line(self, item, /, **fields):
        for name, value in fields.items():
            if value is None:
                fields[name] = "-"
            elif name in ("chain", "header_crc", "payload_crc"):
                fields[name] = f"{value:08x}"
        self.out.write(" ".join([item] + [f"{name}={value}" for name, value in fields.items()]) + "\n")

    def damage(self, at, what):
        self.line("damage", file=segment_name(self.segment.base), byte=at - self.segment.base, at=at, what=what)

    def skipped(self, start, end):
        if end > start:
            self.line("skipped", at=start, bytes=end - start)

    def gap(self, to):
        # The header block in front of a segment's first group is none.
        if self.end != self.segment.base and to > self.end:
            self.line("gap", at=self.end, bytes=to - self.end)

    # The directory.

    def read_directory(self):
        try:
            names = os.listdir(os.path.join(self.root, "log"))
        except FileNotFoundError:
            names = []
        matches = (re.fullmatch(r"([0-9]{20})\.seg", name) for name in names)
        bases = sorted(int(match[1]) for match in matches if match and int(match[1]) < 1 << 64)
        self.headers = {base: SegmentHeader(Segment(self.root, base).filled(base, BLOCK)) for base in bases}
        self.slots = None
        try:
            with open(os.path.join(self.root, "CHECKPOINT"), "rb") as file:
                data = file.read(2 * BLOCK).ljust(2 * BLOCK, b"\0")
            self.slots = [read_slot(data[:BLOCK], 0), read_slot(data[BLOCK:], 1)]
        except FileNotFoundError:
            pass
        slots = self.slots or []
        if any(state == "version" for state, _ in slots):
            raise NoLog("CHECKPOINT has another format version")
        sound = [checkpoint for _, checkpoint in slots if checkpoint]
        self.is_made_up = not sound
        self.slot_damaged = False
        if sound:
            # A copy, because segments that a lost slot may have named are added to it.
            self.checkpoint = copy.copy(max(sound, key=lambda checkpoint: checkpoint.generation))
            state = next((state for state, checkpoint in slots if not checkpoint), None)
            first = state == "empty" and self.checkpoint.generation == 1
            self.slot_damaged = state is not None and not first
        else:
            self.checkpoint = self.make_up()
        if self.slot_damaged:
            checkpoint = self.checkpoint
            while True:
                following = checkpoint.newest_segment + checkpoint.segment_bytes
                if following not in self.headers or self.headers[following].state == "blank":
                    break
                checkpoint.newest_segment = following

    def make_up(self):
        own = [header for base, header in self.headers.items() if header.state == "sound" and header.base == base]
        first = own[0] if own else None
        if first is None or not is_segment_length(first.segment_bytes) or first.base % first.segment_bytes:
            raise NoLog("there is no log")
        newest = first.base
        while newest + first.segment_bytes in self.headers:
            newest += first.segment_bytes
        checkpoint = Checkpoint(bytes(112))
        checkpoint.log_id, checkpoint.segment_bytes = first.log_id, first.segment_bytes
        checkpoint.oldest_segment, checkpoint.newest_segment = first.base, newest
        checkpoint.durable_end = newest
        checkpoint.highest_epoch = max(header.epoch for header in own)
        return checkpoint

    def list_directory(self):
        checkpoint = self.checkpoint
        self.line("log", id=checkpoint.log_id.hex(), segment_bytes=checkpoint.segment_bytes)
        for index, (state, slot) in enumerate(self.slots or []):
            names = ("generation", "clean", "durable_end", "chain", "epoch", "epoch_start", "highest_epoch",
                     "oldest_segment", "newest_segment", "led_from", "stored_at")
            fields = {name: getattr(slot, name) for name in names} if slot else {}
            self.line("slot", byte=index * BLOCK, state=state, **fields)
        if self.is_made_up:
            what = "checkpoint-missing" if self.slots is None else "checkpoint-damaged"
            self.line("damage", file="CHECKPOINT", byte=0, at=None, what=what)
        for base, header in self.headers.items():
            in_place = base % checkpoint.segment_bytes == 0
            behind = base > checkpoint.newest_segment
            if (base < checkpoint.oldest_segment and in_place) or (behind and header.state == "blank"):
                self.line("left-over", file=segment_name(base))
            elif behind or not in_place:
                self.line("damage", file=segment_name(base), byte=0, at=base, what="segment-unnamed")

    # Headers.

    def group_header(self, at):
        """The group whose sound header stands at `at`."""
        data = self.segment.filled(at, GROUP_HEADER)
        group = Group(data)
        if group.bytes < CLOSING_BYTES or group.bytes > GROUP_BYTES_MAX or group.bytes % 8:
            return None
        if at + group.bytes > self.segment.base + self.size:
            return None
        sound = crc32c(struct.pack("<Q", at) + data[:12], self.seed) == group.crc
        return group if sound else None

    def record_header(self, at, left):
        """The record whose sound header stands at `at`, with at most `left` bytes stored."""
        data = self.segment.filled(at, RECORD_HEADER)
        record = Record(data)
        if record.physical_offset != at or record.zero or record.head_bytes > record.payload_bytes:
            return None
        if record.stored_bytes > left:
            return None
        head = self.segment.filled(at + RECORD_HEADER, record.head_bytes)
        return record if crc32c(data[:24] + data[28:] + head, self.seed) == record.header_crc else None

    def epoch_record(self, at, record):
        """Epoch and start of the one before, as a valid epoch record says."""
        if record.kind != EPOCH or record.payload_bytes != 32:
            return None
        data = self.segment.filled(at + RECORD_HEADER, 32)
        start, previous_start, epoch, previous, cause = struct.unpack_from("<QQIIB", data)
        if any(data[25:]) or cause not in (1, 2) or start != at or epoch != record.epoch:
            return None
        if previous >= epoch or previous_start >= start or (previous == 0 and previous_start != 0):
            return None
        return previous, previous_start

    # The walk.

    def walk(self, base, until):
        """Goes into the segment at `base`, or on in it, up to `until`."""
        begins = self.end <= base
        limit = base + self.size
        if self.segment is None or self.segment.base != base:
            self.segment = Segment(self.root, base)
        segment = self.segment
        if segment.is_missing:
            self.damage(base, "segment-missing")
            self.forget(limit)
            return
        header = SegmentHeader(segment.filled(base, BLOCK))
        checkpoint = self.checkpoint
        what = None
        if header.state == "version":
            what = "segment-version"
        elif header.state != "sound":
            what = "segment-header"
        elif header.log_id != checkpoint.log_id:
            what = "segment-log"
        elif (header.base, header.segment_bytes) != (base, self.size):
            what = "segment-place"
        self.header = None if what else header
        if begins:
            known = self.header
            self.line("segment", at=base, file=segment_name(base), file_bytes=len(segment.data),
                      created_at=known and known.created_at, epoch=known and known.epoch,
                      epoch_start=known and known.epoch_start)
            if what:
                self.damage(base, what)
            elif not header.rest_is_zero:
                self.damage(base + 72, "segment-header")
        if what in ("segment-log", "segment-version"):
            self.forget(limit)
            return
        if begins:
            durable_end = checkpoint.durable_end
            if base < durable_end < limit and len(segment.data) < durable_end - base:
                self.damage(base + len(segment.data), "segment-short")
            self.end, self.lost = base, False
        self.walk_groups(min(until, limit))

    def forget(self, end):
        self.end, self.chain, self.epoch, self.lost = end, None, None, False

    def walk_groups(self, until):
        limit = self.segment.base + self.size
        while self.end < until:
            at, group = self.next_group()
            if group:
                self.gap(at)
                self.group(at, group)
            elif at is None:
                self.gap(limit)
                self.end = limit
            elif self.lost:
                self.search(self.end, until)
            else:
                self.gap(at)
                self.damage(at, "group-header")
                self.search(at, until)

    def next_group(self):
        """Where the next group stands; without one, where it should; None behind the last one of a segment."""
        base, limit, end = self.segment.base, self.segment.base + self.size, self.end
        if end == base:
            return base + BLOCK, self.group_header(base + BLOCK)
        closes = limit - end < CLOSING_BYTES
        group = None if closes else self.group_header(end)
        if group:
            return end, group
        block = up(end, BLOCK)
        if any(self.segment.filled(end, block - end)):
            return end, None
        if closes or block == limit:
            return None, None
        return block, self.group_header(block)

    def group(self, at, group):
        self.line("group", at=at, bytes=group.bytes, undurable_bytes=group.undurable_bytes, chain=group.chain)
        if self.chain not in (None, group.chain):
            self.damage(at, "group-chain")
        is_first = at == self.segment.base + BLOCK
        end, position = at + group.bytes, at + GROUP_HEADER
        chain, delta, closes = 0, 0, False
        while position < end:
            record = self.record_header(position, end - position)
            if not record:
                self.damage(position, "record-header")
                chain = self.epoch = None
                following = position + 8
                while following + RECORD_HEADER <= end and not self.record_header(following, end - following):
                    following += 8
                following = following if following + RECORD_HEADER <= end else end
                self.skipped(position, following)
                position = following
                continue
            if chain is not None:
                chain = crc32c(struct.pack("<I", record.header_crc), chain)
            if is_first and position == at + GROUP_HEADER:
                self.enter(position, record)
            self.record(position, record, delta, end)
            delta, closes = record.stored_at_delta, closes or record.kind == PADDING
            position += record.stored_bytes
        self.end = self.segment.base + self.size if closes else end
        self.lost = chain is None
        self.chain = None if chain is None else crc32c(group.header, chain)

    def enter(self, at, record):
        """Compares a segment's first record with its header."""
        begins = self.epoch_record(at, record)
        if not self.header:
            return
        start = at if begins else self.epoch and self.epoch[1]
        if self.header.epoch != record.epoch or start not in (None, self.header.epoch_start):
            self.damage(self.segment.base, "segment-epoch")
        if not begins and self.epoch is None:
            self.epoch = (self.header.epoch, self.header.epoch_start)

    def record(self, at, record, delta=0, end=None):
        padding = record.kind == PADDING
        self.line("padding" if padding else "record", at=at, kind=record.kind, epoch=record.epoch,
                  stored_at=self.header and self.header.created_at + record.stored_at_delta,
                  payload_bytes=record.payload_bytes, head_bytes=record.head_bytes,
                  header_crc=record.header_crc, payload_crc=record.payload_crc)
        limit = self.segment.base + self.size
        wrong = record.epoch == 0 or record.stored_at_delta < delta
        if padding:
            wrong |= record.head_bytes != 0 or at + RECORD_HEADER + record.payload_bytes != limit
            wrong |= end not in (None, at + RECORD_HEADER)
        elif record.kind != EPOCH:
            wrong |= record.kind < FIRST_FREE
        if wrong:
            self.damage(at, "record-fields")
        self.follow_epoch(at, record)
        if not padding:
            data = self.segment.filled(at, record.stored_bytes)
            start, stop = RECORD_HEADER + record.head_bytes, RECORD_HEADER + record.payload_bytes
            if crc32c(data[start:stop], self.seed) != record.payload_crc:
                self.damage(at + start, "payload")
            if any(data[stop:]):
                self.damage(at + stop, "filling")

    def follow_epoch(self, at, record):
        if record.kind != EPOCH:
            if self.epoch is not None and self.epoch[0] != record.epoch:
                self.damage(at, "epoch")
                self.epoch = None
            return
        previous = self.epoch_record(at, record)
        follows = previous is not None and self.epoch in (None, previous)
        self.epoch = (record.epoch, at) if previous is not None else None
        if not follows:
            self.damage(at, "epoch")

    def search(self, start, until):
        """Behind damage: lists records that are sound, up to the next group."""
        limit = self.segment.base + self.size
        at = skipped = start
        self.chain, self.epoch, self.lost = None, None, True
        while at < until:
            if at > start and self.group_header(at):
                first = at + GROUP_HEADER
                if self.record_header(first, limit - first):
                    break
            left = min(limit - at, GROUP_BYTES_MAX)
            record = self.record_header(at, left) if left >= RECORD_HEADER else None
            if record:
                self.skipped(skipped, at)
                self.record(at, record)
                at = skipped = at + record.stored_bytes
                if record.kind == PADDING:
                    self.end = limit
                    return
            elif at % BLOCK == 0 and at + BLOCK <= until and not any(self.segment.filled(at, BLOCK)):
                at += BLOCK
            else:
                at += 8
        at = min(at, limit)
        self.skipped(skipped, at)
        self.end = at

    def walk_on(self, until):
        while self.end < until:
            self.walk(down(self.end, self.size), until)

    # What an opening would keep.

    def open_segment(self, at):
        base = down(at, self.size)
        if self.segment is None or self.segment.base != base:
            self.segment = Segment(self.root, base)
        return self.segment

    def sound_group(self, at):
        """The group at `at`, if all of it is sound: (end, stored end, attested end, chain, next chain, first epoch,
        last epoch, beginnings as (epoch, start, previous))."""
        segment, limit = self.open_segment(at), down(at, self.size) + self.size
        if segment.is_missing or at + GROUP_HEADER > limit or len(segment.held(at, GROUP_HEADER)) < GROUP_HEADER:
            return None
        group = self.group_header(at)
        if not group or len(segment.held(at, group.bytes)) < group.bytes:
            return None
        stored_end, position = at + group.bytes, at + GROUP_HEADER
        end, chain, epoch, delta, first, beginnings = stored_end, 0, 0, 0, None, []
        while position < stored_end:
            record = self.record_header(position, stored_end - position)
            if not record or record.epoch == 0 or record.stored_at_delta < delta:
                return None
            if record.kind == EPOCH:
                previous = self.epoch_record(position, record)
                if previous is None or (first is not None and previous[0] != epoch):
                    return None
                if beginnings and previous[1] != beginnings[-1][1]:
                    return None
                beginnings.append((record.epoch, position, previous))
            elif first is not None and record.epoch != epoch:
                return None
            elif record.kind == PADDING:
                if position + RECORD_HEADER != stored_end or record.head_bytes:
                    return None
                if stored_end + record.payload_bytes != limit:
                    return None
                end = limit
            elif record.kind < FIRST_FREE:
                return None
            if record.kind != PADDING:
                data = segment.held(position, record.stored_bytes)
                start, stop = RECORD_HEADER + record.head_bytes, RECORD_HEADER + record.payload_bytes
                if crc32c(data[start:stop], self.seed) != record.payload_crc or any(data[stop:]):
                    return None
            first = record.epoch if first is None else first
            epoch, delta = record.epoch, record.stored_at_delta
            chain = crc32c(struct.pack("<I", record.header_crc), chain)
            position += record.stored_bytes
        chain = crc32c(group.header, chain)
        attested = max(0, at - group.undurable_bytes)
        return end, stored_end, attested, group.chain, chain, first, epoch, beginnings

    def log_end(self):
        """The end of the longest chain of sound groups from the checkpoint on."""
        checkpoint = self.checkpoint
        end, chain, epoch = checkpoint.durable_end, checkpoint.chain, (checkpoint.epoch, checkpoint.epoch_start)
        believe = self.is_made_up
        if believe:
            chain, epoch = 0, NO_EPOCH

        def fitting(at):
            group = self.sound_group(at)
            if not group:
                return None
            header = SegmentHeader(self.open_segment(at).held(down(at, self.size), BLOCK))
            if header.state != "sound":
                return None
            if believe:
                return group
            first, beginnings = group[5], group[7]
            follows = beginnings[0][2] == epoch if beginnings else first == epoch[0]
            return group if group[3] == chain and follows else None

        while True:
            base = down(end, self.size)
            limit = base + self.size
            group, begins = None, end == base
            if not begins:
                if limit - end >= CLOSING_BYTES:
                    group = fitting(end)
                if not group:
                    block = up(end, BLOCK)
                    if any(self.open_segment(end).held(end, block - end)):
                        return end
                    if block == limit or limit - end < CLOSING_BYTES:
                        base, begins = limit, True
                    elif block != end:
                        group = fitting(block)
            if begins:
                if base > checkpoint.newest_segment:
                    return end
                header = SegmentHeader(self.open_segment(base).held(base, BLOCK))
                if header.state != "sound":
                    return end
                if believe:
                    epoch = (header.epoch, header.epoch_start)
                group = fitting(base + BLOCK)
                if group:
                    first, beginnings = group[5], group[7]
                    begun = beginnings and beginnings[0][0] == first
                    start = beginnings[0][1] if begun else epoch[1]
                    if (header.epoch, header.epoch_start) != (first, start):
                        group = None
            if not group:
                return end
            end, chain, last, beginnings = group[0], group[4], group[6], group[7]
            epoch = (last, beginnings[-1][1] if beginnings else epoch[1])
            believe = False

    def look_behind(self, end):
        """The verdict, the `behind` lines' fields, and the remains."""
        checkpoint = self.checkpoint
        closed = checkpoint.clean and end == checkpoint.durable_end and not self.slot_damaged
        if closed and not self.is_made_up:
            return "closed", [], []
        last = min(checkpoint.newest_segment + self.size, up(end + SEARCH_BYTES, BLOCK))
        groups, remains, at, skip_to = [], [], end, end
        while at < last:
            block_end = min(up(at + 1, BLOCK), last)
            data = self.open_segment(at).held(at, block_end - at)
            if not data:
                at = down(at, self.size) + self.size
                continue
            if any(data):
                joined = remains and remains[-1][1] == at and down(remains[-1][0], self.size) == down(at, self.size)
                if joined:
                    remains[-1][1] = at + len(data)
                else:
                    remains.append([at, at + len(data)])
                for place in range(at, at + len(data) - 7, 8):
                    group = self.sound_group(place) if place >= skip_to else None
                    if group:
                        skip_to = group[1]
                        groups.append((place, group[1] - place, group[5], group[2], self.word(place, group, end)))
            at = block_end
        words = [group[4] for group in groups]
        if "witness" in words:
            return "corrupt", groups, remains
        if "doubt" in words:
            return "doubt", groups, remains
        return ("tear" if remains else "nothing"), groups, remains

    def word(self, at, group, end):
        if group[5] < self.checkpoint.highest_epoch:
            return "earlier-life"
        if group[2] <= end:
            return "nothing"
        return "doubt" if at < self.checkpoint.led_from else "witness"

    # The whole.

    def run(self):
        self.list_directory()
        checkpoint = self.checkpoint
        durable_end, base = checkpoint.durable_end, checkpoint.oldest_segment
        self.forget(base)
        if base == 0:
            self.chain, self.epoch = 0, NO_EPOCH
        while base < durable_end:
            self.walk(base, durable_end)
            base += self.size
        if self.is_made_up:
            self.forget(durable_end)
        else:
            epoch = (checkpoint.epoch, checkpoint.epoch_start)
            agrees = self.end == durable_end
            agrees &= self.chain in (None, checkpoint.chain) and self.epoch in (None, epoch)
            if not agrees:
                self.line("damage", file="CHECKPOINT", byte=0, at=durable_end, what="durable-end")
            self.end, self.chain, self.epoch, self.lost = durable_end, checkpoint.chain, epoch, False
        end = self.log_end()
        self.walk_on(end)
        verdict, groups, remains = self.look_behind(end)
        self.line("end", at=end, behind=verdict)
        for at, count, epoch, attested, word in groups:
            self.line("behind", at=at, bytes=count, epoch=epoch, attested_end=attested, word=word)
        for start, stop in remains:
            self.line("remains", at=start, bytes=stop - start)
        if verdict == "corrupt":
            heard = [at + count for at, count, _, _, word in groups if word in ("witness", "nothing")]
            self.walk_on(max(heard[-1], end))
        base = max(up(self.end, self.size), checkpoint.oldest_segment)
        while base <= checkpoint.newest_segment:
            segment = self.open_segment(base)
            if segment.is_missing:
                self.damage(base, "segment-missing")
            else:
                self.line("prepared", at=base, file=segment_name(base), file_bytes=len(segment.data))
            base += self.size


def main():
    if len(sys.argv) != 2:
        sys.exit(f"usage: {sys.argv[0]} DIRECTORY")
    try:
        Listing(sys.argv[1], sys.stdout).run()
    except NoLog as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()

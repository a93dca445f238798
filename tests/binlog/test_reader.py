"""The reader on captured dumps: chunks, positions, checkpoints, transactions, rotations, the filter. No server."""

from __future__ import annotations

import random
import struct
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from binlogsync.binlog.reader import BinlogReader, DecodedRange
from binlogsync.change import RowChange
from binlogsync.flush import Flush
from binlogsync.position import BinlogPosition, Checkpoint, GtidSet
from binlogsync.server_version import ServerFlavor
from tests.binlog.binlog_builder import FORMAT, ROTATE, rotate
from tests.binlog.captured import NAMES, CapturedDump, load, summary
from tests.binlog.damage import dump_of, packets, signed
from tests.binlog.dump import DecodedDump, DumpRecording, changes_of, decode


@pytest.fixture(params=NAMES)
def golden(request: pytest.FixtureRequest) -> CapturedDump:
    return load(request.param)


def summaries(done: DecodedDump) -> list[list[Any]]:
    assert done.error is None, done.error
    return [summary(change) for change in done.changes]


# Chunks


def test_a_dump_in_one_chunk_has_the_captured_changes(golden: CapturedDump) -> None:
    done = golden.recording.decoded()
    assert done.reader.ended
    assert summaries(done) == golden.expected


def test_a_dump_fed_byte_by_byte_has_the_same_changes(golden: CapturedDump) -> None:
    raw = golden.recording.raw
    assert summaries(golden.recording.decoded(range(1, len(raw)))) == golden.expected


@pytest.mark.parametrize("seed", range(5))
def test_a_dump_in_random_chunks_has_the_same_changes(golden: CapturedDump, seed: int) -> None:
    chance = random.Random(seed)
    size = len(golden.recording.raw)
    cuts = sorted(chance.randrange(size) for _ in range(chance.choice((1, 3, 20, 200))))
    assert summaries(golden.recording.decoded(cuts)) == golden.expected


def test_a_range_ends_where_it_is_split(golden: CapturedDump) -> None:
    recording = golden.recording
    places = sorted({place for each in recording.decoded().ranges for place in _transactions(each)})
    for file, begin in places[:20]:
        done = DecodedDump(BinlogReader(recording.options, recording.start))
        done.reader.split_at = BinlogPosition(file, begin)
        piece = np.frombuffer(recording.raw, np.uint8).copy()
        done.ranges.extend(done.reader.feed(piece, 0, len(piece)))
        assert summaries(done) == golden.expected
        for each in done.ranges:
            assert len({place < (file, begin) for place in _transactions(each) if place[0] == file}) <= 1


def _transactions(decoded: DecodedRange) -> set[tuple[str, int]]:
    """(file, offset) of the transactions with changes."""
    columns = [(batch.data.column("file").to_pylist(), batch.data.column("txn_pos")) for batch in decoded.batches]
    return {place for files, begins in columns for place in zip(files, begins.to_pylist(), strict=True)}


def test_room_before_the_bytes_is_used_and_no_other_byte_is_changed(golden: CapturedDump) -> None:
    raw, recording = golden.recording.raw, golden.recording
    reader = BinlogReader(recording.options, recording.start)
    ranges: list[DecodedRange] = []
    for at in range(0, len(raw), 701):
        piece = raw[at : at + 701]
        buffer = np.full(4096 + len(piece) + 64, 0xAA, np.uint8)
        buffer[4096 : 4096 + len(piece)] = np.frombuffer(piece, np.uint8)
        ranges += reader.feed(buffer, 4096, 4096 + len(piece))
        assert (buffer[4096 + len(piece) :] == 0xAA).all()
    assert [summary(change) for change in changes_of(ranges)] == golden.expected


# Positions


def test_coordinates_are_increasing(golden: CapturedDump) -> None:
    changes = golden.recording.changes()
    pointers = [change.source.coordinates for change in changes]
    assert pointers == sorted(set(pointers))
    assert len({change.id for change in changes}) == len(changes)


def test_the_last_position_is_the_end_of_the_log(golden: CapturedDump) -> None:
    done = golden.recording.decoded()
    assert done.ranges[-1].checkpoint.position == done.reader.position


def test_counts_of_ranges_add_up(golden: CapturedDump) -> None:
    ranges = golden.recording.decoded().ranges
    batches = [batch for decoded_range in ranges for batch in decoded_range.batches]
    assert sum(len(batch) for batch in batches if batch.ddl is None) == len(golden.expected)
    assert [batch.ddl.kind for batch in batches if batch.ddl is not None] == ["create", "alter"]
    assert sum(decoded_range.dropped for decoded_range in ranges) == 3  # two rows and an update of `other`
    runs = [run for decoded_range in ranges for run in decoded_range.runs]
    assert sum(decoded_range.transactions for decoded_range in ranges) == sum(len(run.begin) for run in runs)


def test_the_filter_counts_rows_of_tables_whose_types_it_cannot_read(golden: CapturedDump) -> None:
    orders = [change.source.order for change in golden.recording.changes() if change.source.table == "kinds"]
    assert orders[orders.index(4) - 1] == 2  # two rows of `other`, one of kinds, one of `other`, one of kinds


def test_without_the_filter_those_rows_are_delivered(golden: CapturedDump) -> None:
    options = replace(golden.recording.options, captures=lambda database, table: database == "golden")
    done = decode(golden.recording.raw, options, golden.recording.start)
    assert done.error is None
    others = [change for change in done.changes if change.source.table == "other"]
    point = {"srid": 0, "wkb": struct.pack("<BIdd", 1, 1, 1.0, 2.0)}
    assert [(change.op, change.after and change.after["g"]) for change in others] == [
        ("c", point),
        ("c", None),
        ("u", None),
    ]
    rest = [summary(change) for change in done.changes if change.source.table != "other"]
    assert rest == golden.expected


def test_partial_images_do_not_have_the_columns_that_were_not_logged(golden: CapturedDump) -> None:
    changes = golden.recording.changes()
    update = next(change for change in changes if change.op == "u" and change.after == {"v": None})
    assert update.before == {"id": 1}
    delete = next(change for change in changes if change.op == "d" and change.before == {"id": 4})
    assert delete.after is None


def test_a_schema_change_ends_a_range_and_old_rows_keep_the_old_schema(golden: CapturedDump) -> None:
    done = golden.recording.decoded()
    kinds = [change.kind for decoded_range in done.ranges for change in decoded_range.schema_changes]
    assert kinds == ["create", "alter", "truncate"]
    assert {decoded_range.end for decoded_range in done.ranges if decoded_range.schema_changes} == {"schema"}
    columns = [list(change.after) for change in done.changes if change.op == "c" and change.after]
    assert "j" in columns[0]
    assert "extra" not in columns[0]
    assert "extra" in columns[-1]
    assert "j" not in columns[-1]


def test_truncate_is_a_change_at_its_position(golden: CapturedDump) -> None:
    done = golden.recording.decoded()
    ops = [change.op for change in done.changes]
    assert ops[-2:] == ["t", "c"]
    truncation = done.changes[-2]
    assert truncation.before is None
    assert truncation.after is None
    statement = next(s.schema_changes[0] for s in reversed(done.ranges) if s.schema_changes)
    assert statement.gtid == truncation.source.gtid


def test_a_rotation_ends_one_range_and_reading_continues_in_the_next_file(golden: CapturedDump) -> None:
    for cuts in ((), range(1, len(golden.recording.raw))):
        ranges = golden.recording.decoded(cuts).ranges
        rotations = [decoded_range for decoded_range in ranges if decoded_range.end == "rotation"]
        assert len(rotations) == 1
        assert rotations[0].checkpoint.position == BinlogPosition("binlog.000002", 4)


# Checkpoints


def _rest(recording: DumpRecording, checkpoint: Checkpoint) -> DumpRecording:
    """The dump from the checkpoint: an artificial rotate, the format description, and the file from the position on."""
    payloads = packets(recording.raw)
    position = checkpoint.position
    kept: list[bytes] = []
    file, at = "", 0
    for payload in payloads:
        event = payload[1:]
        if payload[:1] != b"\0":
            kept.append(payload)
            continue
        kind, size = event[4], len(event)
        end = int.from_bytes(event[13:17], "little")
        if kind == ROTATE:
            file, at = event[27:-4].decode(), int.from_bytes(event[19:27], "little")
            continue
        if kind == FORMAT or not int.from_bytes(event[17:19], "little") & 0x20:
            at = end or at + (0 if kind == FORMAT else size)
        begun = at - size if not end else end - size
        if kind == FORMAT and file == position.file:
            kept.append(b"\0" + signed(event[:13] + bytes(4) + event[17:]))
        elif file == position.file and begun >= position.pos:
            kept.append(payload)
        elif file > position.file:
            kept += [] if any(file.encode() in k and k[5] == ROTATE for k in kept) else [rotate(file, 4)]
            kept.append(payload)
    return DumpRecording(dump_of([rotate(position.file, position.pos), *kept]), checkpoint, recording.options)


def _flush_of(ranges: list[DecodedRange], start: Checkpoint) -> Flush:
    """All ranges as one flush; a run that continues from the preceding range is joined to its first part."""
    runs = list(ranges[0].runs)
    for decoded_range in ranges[1:]:
        following = list(decoded_range.runs)
        if decoded_range.carried and following:
            first = following[0]
            begin, seq = list(first.begin)[1:], list(first.first_seq)[1:]
            following = (
                [replace(first, first=first.first + 1, begin=begin, first_seq=seq)] if begin else []
            ) + following[1:]
        runs += following
    batches = tuple(batch for decoded_range in ranges for batch in decoded_range.batches)
    return Flush("tests", 1, "rows", batches, start, ranges[-1].checkpoint, tuple(runs))


def _delivered(recording: DumpRecording, checkpoint: Checkpoint) -> tuple[list[RowChange], int]:
    """The row changes after a restart at the checkpoint, and the number of schema changes."""
    done = _rest(recording, checkpoint).decoded()
    assert done.error is None, done.error
    if not done.ranges:
        return [], 0
    flush = _flush_of(done.ranges, replace(checkpoint, skip=0)).without_stored(checkpoint)
    numbered = [
        pair
        for batch in flush.batches
        if batch.ddl is None
        for pair in zip(batch.data.column("seq").to_pylist(), batch.changes(), strict=True)
    ]
    statements = sum(batch.ddl is not None for batch in flush.batches)
    return [change for _, change in sorted(numbered, key=lambda pair: pair[0])], statements


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(2))
def test_a_restart_at_the_end_of_any_range_delivers_the_rest(golden: CapturedDump, seed: int) -> None:
    size = len(golden.recording.raw)
    chance = random.Random(seed)
    cuts = sorted(chance.randrange(size) for _ in range(12))
    ranges = golden.recording.decoded(cuts).ranges
    seen, statements = 0, 2
    for decoded_range in ranges:
        seen += sum(len(batch) for batch in decoded_range.batches if batch.ddl is None)
        statements -= sum(batch.ddl is not None for batch in decoded_range.batches)
        rest, left = _delivered(golden.recording, decoded_range.checkpoint)
        assert [summary(change) for change in rest] == golden.expected[seen:], decoded_range.checkpoint
        assert left == statements, decoded_range.checkpoint


@pytest.mark.slow
def test_a_restart_after_any_change_delivers_the_rest(golden: CapturedDump) -> None:
    recording = golden.recording
    ranges = recording.decoded().ranges
    flush = _flush_of(ranges, recording.start)
    pointers = sorted(
        (row["seq"], row["order"], row["ts_us"], batch.ddl is not None)
        for batch in flush.batches
        for row in batch.data.select(["seq", "order", "ts_us"]).to_pylist()
    )
    seen, statements = 0, 2
    for seq, order, ts, is_statement in pointers:
        seen, statements = seen + (not is_statement), statements - is_statement
        checkpoint = flush.checkpoint_at(seq, order, int(ts.timestamp() * 1_000_000))
        rest, left = _delivered(recording, checkpoint)
        assert [summary(change) for change in rest] == golden.expected[seen:], checkpoint
        assert left == statements, checkpoint


def test_an_open_transaction_continues_in_the_next_range(golden: CapturedDump) -> None:
    raw = golden.recording.raw
    done = golden.recording.decoded(range(1, len(raw)))
    opened = [decoded_range for decoded_range in done.ranges if decoded_range.checkpoint.skip]
    assert opened
    for decoded_range in opened:
        following = done.ranges[done.ranges.index(decoded_range) + 1]
        assert following.carried
        assert following.runs[0].begin[0] == decoded_range.checkpoint.position.pos


def test_gtids_of_a_checkpoint_are_those_of_the_transactions_that_ended(golden: CapturedDump) -> None:
    last = golden.recording.decoded().ranges[-1].checkpoint
    assert last.gtids is not None
    gtids = {change.source.gtid for change in golden.recording.changes()}
    assert all(last.gtids.contains(GtidSet(last.gtids.flavor).with_gtid(gtid)) for gtid in gtids if gtid)
    if last.gtids.flavor == ServerFlavor.MYSQL:
        assert any(key.endswith(":tag") for key in last.gtids.members)

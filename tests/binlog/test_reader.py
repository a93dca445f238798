"""The reader on captured bytes: cuts, places, checkpoints, transactions, rotations, the filter. No server."""

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


# Cuts


def test_a_dump_fed_whole_holds_what_was_captured(golden: CapturedDump) -> None:
    done = golden.recording.decoded()
    assert done.reader.ended
    assert summaries(done) == golden.expected


def test_a_dump_fed_byte_by_byte_holds_the_same(golden: CapturedDump) -> None:
    raw = golden.recording.raw
    assert summaries(golden.recording.decoded(range(1, len(raw)))) == golden.expected


@pytest.mark.parametrize("seed", range(15))
def test_a_dump_fed_in_random_pieces_holds_the_same(golden: CapturedDump, seed: int) -> None:
    chance = random.Random(seed)
    size = len(golden.recording.raw)
    cuts = sorted(chance.randrange(size) for _ in range(chance.choice((1, 3, 20, 200))))
    assert summaries(golden.recording.decoded(cuts)) == golden.expected


def test_room_in_front_of_the_bytes_is_used_and_nothing_else_is_touched(golden: CapturedDump) -> None:
    raw, recording = golden.recording.raw, golden.recording
    reader = BinlogReader(recording.options, recording.start)
    stretches: list[DecodedRange] = []
    for at in range(0, len(raw), 701):
        piece = raw[at : at + 701]
        buffer = np.full(4096 + len(piece) + 64, 0xAA, np.uint8)
        buffer[4096 : 4096 + len(piece)] = np.frombuffer(piece, np.uint8)
        stretches += reader.feed(buffer, 4096, 4096 + len(piece))
        assert (buffer[4096 + len(piece) :] == 0xAA).all()
    assert [summary(change) for change in changes_of(stretches)] == golden.expected


# Places


def test_places_order_the_changes_and_never_repeat(golden: CapturedDump) -> None:
    changes = golden.recording.changes()
    places = [change.source.coordinates for change in changes]
    assert places == sorted(set(places))
    assert len({change.id for change in changes}) == len(changes)


def test_positions_end_where_the_file_says(golden: CapturedDump) -> None:
    done = golden.recording.decoded()
    assert done.stretches[-1].checkpoint.position == done.reader.position


def test_counts_of_a_stretch_add_up(golden: CapturedDump) -> None:
    stretches = golden.recording.decoded().stretches
    batches = [batch for stretch in stretches for batch in stretch.batches]
    assert sum(len(batch) for batch in batches if batch.ddl is None) == len(golden.expected)
    assert [batch.ddl.kind for batch in batches if batch.ddl is not None] == ["create", "alter"]
    assert sum(stretch.dropped for stretch in stretches) == 3  # two rows and an update of `other`
    runs = [run for stretch in stretches for run in stretch.runs]
    assert sum(stretch.transactions for stretch in stretches) == sum(len(run.begin) for run in runs)


def test_the_filter_counts_rows_of_tables_whose_types_it_cannot_read(golden: CapturedDump) -> None:
    orders = [change.source.order for change in golden.recording.changes() if change.source.table == "kinds"]
    assert orders[orders.index(4) - 1] == 2  # two rows of `other`, one of kinds, one of `other`, one of kinds


def test_without_the_filter_those_rows_are_there(golden: CapturedDump) -> None:
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


def test_partial_images_lack_what_was_not_logged(golden: CapturedDump) -> None:
    changes = golden.recording.changes()
    update = next(change for change in changes if change.op == "u" and change.after == {"v": None})
    assert update.before == {"id": 1}
    delete = next(change for change in changes if change.op == "d" and change.before == {"id": 4})
    assert delete.after is None


def test_a_schema_change_ends_a_stretch_and_old_rows_keep_the_old_schema(golden: CapturedDump) -> None:
    done = golden.recording.decoded()
    kinds = [change.kind for stretch in done.stretches for change in stretch.schema_changes]
    assert kinds == ["create", "alter", "truncate"]
    assert {stretch.end for stretch in done.stretches if stretch.schema_changes} == {"schema"}
    columns = [list(change.after) for change in done.changes if change.op == "c" and change.after]
    assert "j" in columns[0]
    assert "extra" not in columns[0]
    assert "extra" in columns[-1]
    assert "j" not in columns[-1]


def test_truncate_is_a_change_of_its_own_in_its_place(golden: CapturedDump) -> None:
    done = golden.recording.decoded()
    ops = [change.op for change in done.changes]
    assert ops[-2:] == ["t", "c"]
    truncation = done.changes[-2]
    assert truncation.before is None
    assert truncation.after is None
    statement = next(s.schema_changes[0] for s in reversed(done.stretches) if s.schema_changes)
    assert statement.gtid == truncation.source.gtid


def test_a_rotation_ends_a_stretch_once_and_goes_on_in_the_next_file(golden: CapturedDump) -> None:
    for cuts in ((), range(1, len(golden.recording.raw))):
        stretches = golden.recording.decoded(cuts).stretches
        rotations = [stretch for stretch in stretches if stretch.end == "rotation"]
        assert len(rotations) == 1
        assert rotations[0].checkpoint.position == BinlogPosition("binlog.000002", 4)


# Checkpoints


def _rest(recording: DumpRecording, checkpoint: Checkpoint) -> DumpRecording:
    """What a dump from the checkpoint would send: the same file from there on, behind a rotate and its description."""
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


def _flush_of(stretches: list[DecodedRange], start: Checkpoint) -> Flush:
    """All stretches as one flush, the runs that go on joined to those they continue."""
    runs = list(stretches[0].runs)
    for stretch in stretches[1:]:
        following = list(stretch.runs)
        if stretch.carried and following:
            first = following[0]
            begin, seq = list(first.begin)[1:], list(first.first_seq)[1:]
            following = (
                [replace(first, first=first.first + 1, begin=begin, first_seq=seq)] if begin else []
            ) + following[1:]
        runs += following
    batches = tuple(batch for stretch in stretches for batch in stretch.batches)
    return Flush("tests", 1, "rows", batches, start, stretches[-1].checkpoint, tuple(runs))


def _delivered(recording: DumpRecording, checkpoint: Checkpoint) -> tuple[list[RowChange], int]:
    """The changes of rows behind a checkpoint, as a restart there finds them, and the number of schema changes."""
    done = _rest(recording, checkpoint).decoded()
    assert done.error is None, done.error
    if not done.stretches:
        return [], 0
    flush = _flush_of(done.stretches, replace(checkpoint, skip=0)).without_stored(checkpoint)
    numbered = [
        pair
        for batch in flush.batches
        if batch.ddl is None
        for pair in zip(batch.data.column("seq").to_pylist(), batch.changes(), strict=True)
    ]
    statements = sum(batch.ddl is not None for batch in flush.batches)
    return [change for _, change in sorted(numbered, key=lambda pair: pair[0])], statements


@pytest.mark.parametrize("seed", range(2))
def test_a_restart_at_the_end_of_any_stretch_gives_the_rest(golden: CapturedDump, seed: int) -> None:
    size = len(golden.recording.raw)
    chance = random.Random(seed)
    cuts = sorted(chance.randrange(size) for _ in range(12))
    stretches = golden.recording.decoded(cuts).stretches
    seen, statements = 0, 2
    for stretch in stretches:
        seen += sum(len(batch) for batch in stretch.batches if batch.ddl is None)
        statements -= sum(batch.ddl is not None for batch in stretch.batches)
        rest, left = _delivered(golden.recording, stretch.checkpoint)
        assert [summary(change) for change in rest] == golden.expected[seen:], stretch.checkpoint
        assert left == statements, stretch.checkpoint


def test_a_restart_behind_any_change_gives_the_rest(golden: CapturedDump) -> None:
    recording = golden.recording
    stretches = recording.decoded().stretches
    flush = _flush_of(stretches, recording.start)
    places = sorted(
        (row["seq"], row["order"], row["ts_us"], batch.ddl is not None)
        for batch in flush.batches
        for row in batch.data.select(["seq", "order", "ts_us"]).to_pylist()
    )
    seen, statements = 0, 2
    for seq, order, ts, is_statement in places:
        seen, statements = seen + (not is_statement), statements - is_statement
        checkpoint = flush.checkpoint_at(seq, order, int(ts.timestamp() * 1_000_000))
        rest, left = _delivered(recording, checkpoint)
        assert [summary(change) for change in rest] == golden.expected[seen:], checkpoint
        assert left == statements, checkpoint


def test_an_open_transaction_goes_on_over_stretches(golden: CapturedDump) -> None:
    raw = golden.recording.raw
    done = golden.recording.decoded(range(1, len(raw)))
    opened = [stretch for stretch in done.stretches if stretch.checkpoint.skip]
    assert opened
    for stretch in opened:
        following = done.stretches[done.stretches.index(stretch) + 1]
        assert following.carried
        assert following.runs[0].begin[0] == stretch.checkpoint.position.pos


def test_gtids_of_a_checkpoint_are_those_of_the_transactions_that_ended(golden: CapturedDump) -> None:
    last = golden.recording.decoded().stretches[-1].checkpoint
    assert last.gtids is not None
    gtids = {change.source.gtid for change in golden.recording.changes()}
    assert all(last.gtids.contains(GtidSet(last.gtids.flavor).with_gtid(gtid)) for gtid in gtids if gtid)
    if last.gtids.flavor == "mysql":
        assert any(key.endswith(":tag") for key in last.gtids.members)

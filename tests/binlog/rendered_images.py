"""Compares row events rendered directly as JSON with the same events decoded to columns and then rendered."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace

from binlogsync.binlog.rendered import RenderedBatch
from binlogsync.change_batch import ChangeBatch
from binlogsync.codec.envelope import EnvelopeContext, render
from binlogsync.codec.image_texts import ImageTextWriter
from tests.binlog.dump import DecodedDump, DumpRecording

_CONTEXT = EnvelopeContext("näme %d", 1_700_000_000_123_456)


def packet_ends(raw: bytes) -> Iterator[int]:
    """The offset after each packet: a dump that is cut there is decoded event by event."""
    at = 0
    while at + 4 <= len(raw):
        at += 4 + int.from_bytes(raw[at : at + 3], "little")
        yield at


def compare_rendered(recording: DumpRecording, cuts: Iterable[int]) -> tuple[int, int]:
    """Decode the dump both ways, with the same cuts, and compare; returns how many batches were rendered directly, and
    how many there are.
    """
    cuts = list(cuts)
    plain = recording.decoded(cuts)
    options = replace(recording.options, renderer=ImageTextWriter())
    direct = DumpRecording(recording.raw, recording.start, options).decoded(cuts)
    assert str(direct.error) == str(plain.error)
    assert [replace(part, batches=()).checkpoint for part in direct.ranges] == [
        replace(part, batches=()).checkpoint for part in plain.ranges
    ]
    ours, theirs = _batches(direct), _batches(plain)
    for one, other in zip(ours, theirs, strict=True):
        compare_batches(one, other)
    return sum(isinstance(batch, RenderedBatch) for batch in ours), len(ours)


def compare_batches(one: ChangeBatch, other: ChangeBatch) -> None:
    """Compare envelopes, source columns and row views."""
    assert one.schema == other.schema
    assert render(one, _CONTEXT, b"\n").texts() == render(other, _CONTEXT, b"\n").texts()
    assert list(one.seqs()) == list(other.seqs())
    assert [one.source_values(row) for row in range(len(one))] == [
        other.source_values(row) for row in range(len(other))
    ]
    # As text, because a damaged FLOAT may be NaN.
    assert str(list(one.changes())) == str(list(other.changes()))


def _batches(done: DecodedDump) -> list[ChangeBatch]:
    return [batch for part in done.ranges for batch in part.batches if batch.ddl is None]

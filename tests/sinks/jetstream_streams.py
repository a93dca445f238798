"""Sources of small changes for tests of the JetStream sink, and the contents of their streams."""

from __future__ import annotations

import itertools
from dataclasses import replace
from typing import Any

from binlogsync.codec import subjects
from binlogsync.nats.reader import StreamBatch, StreamReader
from binlogsync.schema import Column, TableSchema
from binlogsync.sinks.jetstream import JetStreamOptions
from tests.samples import SampleOptions, SampleSource
from tests.sinks.contract import Stored

_NUMBERS = itertools.count(1)
_SMALL = TableSchema("shop", "small", (Column("id", "bigint", False, True), Column("c_varchar", "varchar")), ("id",))
SMALL = SampleOptions(tables=(_SMALL,))


def new_source() -> str:
    return f"sink{next(_NUMBERS)}"


def fetch_all(reader: StreamReader, durable: str, size: int = 1000) -> list[StreamBatch]:
    """All messages that the durable has left. A fetch without messages may only be a slow one."""
    found: list[StreamBatch] = []
    while True:
        batches = reader.fetch(durable, size, 0.1)
        if not batches and reader.has_all(durable):
            return found
        found += batches


def read_all(url: str, source: str) -> list[tuple[int, dict[str, Any]]]:
    """(stream sequence, change) of every change in the stream."""
    found: list[tuple[int, dict[str, Any]]] = []
    with StreamReader(JetStreamOptions(url=url), source) as reader:
        for database, table in reader.tables():
            durable = subjects.durable_name("test", database, table)
            reader.ensure_durable(durable, database, table, 1)
            for item in fetch_all(reader, durable):
                found += zip(item.sequences.tolist(), item.batch.data.to_pylist(), strict=True)
            reader.delete_durable(durable)
    return found


def stored(url: str, source: str) -> Stored:
    changes = sorted(read_all(url, source), key=lambda pair: pair[0])
    return [(row["file"], row["txn_pos"], row["order"], row["row"], row["op"]) for _, row in changes]


def samples(source: str, options: SampleOptions = SMALL) -> SampleSource:
    return SampleSource(replace(options, source=source))

"""Rows as a snapshot publishes them into the stream, made from values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from binlogsync.change import Op
from binlogsync.change_batch import ChangeBatch, build_batch
from binlogsync.position import SNAPSHOT
from binlogsync.schema import TableSchema
from tests.samples import FIRST_TS_US, SERVER_ID, SERVER_UUID


@dataclass(frozen=True, slots=True)
class PublishedAt:
    """Id of the snapshot, ordinal of the first row, and the transaction boundary at which the rows are published."""

    snapshot: str
    first: int
    pos: int
    file: str = "binlog.000001"
    server: tuple[str, int] = (SERVER_UUID, SERVER_ID)
    ts_us: int = FIRST_TS_US


def publish_rows(
    schema: TableSchema,
    rows: Sequence[Mapping[str, Any] | None],
    at: PublishedAt,
    first_seq: int = 0,
    stages: Sequence[str] = (),
) -> ChangeBatch:
    """The rows with the op "r"; None is the reset (op "t") before a whole table, and `stages` those of its rows."""
    count = len(rows)
    ordinals = np.arange(at.first, at.first + count, dtype=np.int64)
    source = {
        "ts_us": pa.array([at.ts_us] * count, pa.int64()),
        "gtid": [f"{SNAPSHOT}{at.snapshot}{f':{stage}' if stage else ''}" for stage in stages or [""] * count],
        "file": [at.file] * count,
        "pos": [at.pos] * count,
        "row": pa.array(ordinals, pa.uint32()),
        "txn_pos": [at.pos] * count,
        "order": pa.array(ordinals, pa.uint64()),
        "seq": pa.array(np.arange(first_seq, first_seq + count)),
    }
    kind = schema.image_type()
    images = (pa.nulls(count, kind), pa.array(list(rows), kind))
    ops: list[Op] = ["t" if row is None else "r" for row in rows]
    return build_batch(schema, ops, images, source, at.server)

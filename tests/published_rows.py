"""Rows as a snapshot publishes them into the stream, made from values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from binlogsync.change import SNAPSHOT, ChangeBatch, build_batch
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
    schema: TableSchema, rows: Sequence[Mapping[str, Any]], at: PublishedAt, first_seq: int = 0
) -> ChangeBatch:
    """The rows with the op "r"."""
    count = len(rows)
    ordinals = np.arange(at.first, at.first + count, dtype=np.int64)
    source = {
        "ts_us": pa.array([at.ts_us] * count, pa.int64()),
        "gtid": [f"{SNAPSHOT}{at.snapshot}"] * count,
        "file": [at.file] * count,
        "pos": [at.pos] * count,
        "row": pa.array(ordinals, pa.uint32()),
        "txn_pos": [at.pos] * count,
        "order": pa.array(ordinals, pa.uint64()),
        "seq": pa.array(np.arange(first_seq, first_seq + count)),
    }
    kind = schema.image_type()
    images = (pa.nulls(count, kind), pa.array(list(rows), kind))
    return build_batch(schema, ["r"] * count, images, source, at.server)

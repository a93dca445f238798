"""Rows of a SELECT as changes with op "r"."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from binlogsync.change import ImageName
from binlogsync.change_batch import OP_TYPE, ChangeBatch, build_batch
from binlogsync.mysql.config import MySQLConfig
from binlogsync.mysql.result_set import read_rows
from binlogsync.mysql.result_set.reader import BATCH_ROWS, TableRows
from binlogsync.mysql.session import Connection
from binlogsync.position import Checkpoint
from binlogsync.schema import TableSchema


@dataclass(frozen=True, slots=True)
class RowOrigin:
    """Position of the rows, and (server_uuid, server_id)."""

    at: Checkpoint
    server: tuple[str, int]


def read_batches(
    config: MySQLConfig,
    connection: Connection,
    schema: TableSchema,
    origin: RowOrigin,
    clauses: str = "",
    size: int = BATCH_ROWS,
) -> Generator[ChangeBatch, None, None]:
    """The rows of `SELECT <columns> FROM <table> <clauses>`, up to `size` at a time; see mysql/result_set."""
    first = 0
    for rows in read_rows(config, connection, schema, clauses, batch_rows=size):
        yield _build_batch(schema, rows, first, origin)
        first += len(rows)


def _build_batch(schema: TableSchema, rows: TableRows, first: int, origin: RowOrigin) -> ChangeBatch:
    """The rows as changes, numbered from `first`."""
    count, position = len(rows), origin.at.position
    numbers = pa.array(np.arange(first, first + count))
    source = {
        "ts_us": pa.repeat(pa.scalar(origin.at.ts_us, pa.int64()), count),
        "gtid": pa.nulls(count, pa.string()),
        "file": pa.repeat(pa.scalar(position.file), count),
        "pos": pa.repeat(pa.scalar(position.pos, pa.uint64()), count),
        "row": numbers,
        "txn_pos": pa.repeat(pa.scalar(position.pos, pa.uint64()), count),
        "order": numbers,
        "seq": numbers,
    }
    ops = pa.repeat(pa.scalar("r"), count).dictionary_encode().cast(OP_TYPE)
    none = pa.nulls(count, schema.image_type())
    impossible: dict[tuple[ImageName, str], pa.StringArray] = {
        ("after", name): texts for name, texts in rows.impossible.items()
    }
    return build_batch(schema, ops, (none, rows.image), source, origin.server, impossible)

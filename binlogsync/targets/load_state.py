"""The state of a load of existing rows, which its target stores in the transaction of the rows of each chunk."""

from __future__ import annotations

from dataclasses import dataclass

from binlogsync.position import Checkpoint
from binlogsync.schema import TableSchema


@dataclass(frozen=True, slots=True)
class LoadState:
    """A load that has begun.

    Attributes:
        start: checkpoint of the stream at its beginning: the changes after it are applied to the rows.
        start_sequence: stream sequence of that checkpoint.
        server_uuid: of the server that is read.
        schema: of the spare table; its primary key is `key`.
        left_out: columns of the source that the mirror will not have.
        last_key: SQL literals of the last key that was read; None before the first chunk.
        rows: number of rows read.
        high: the rows can contain changes up to this checkpoint; None until all chunks were read.
        applied: stream sequence up to which changes were applied to the rows.
        stream: when the stream was created (StreamReader.created_at); None if it is not known.
    """

    start: Checkpoint
    start_sequence: int
    server_uuid: str
    schema: TableSchema
    left_out: tuple[str, ...]
    key: tuple[str, ...]
    applied: int
    last_key: tuple[str, ...] | None = None
    rows: int = 0
    high: Checkpoint | None = None
    stream: str | None = None

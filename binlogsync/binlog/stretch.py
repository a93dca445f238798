"""What comes out of the reader: a stretch of a binlog, decoded, with the place where a restart begins behind it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from binlogsync.change import ChangeBatch, SchemaChange
from binlogsync.flush import Run
from binlogsync.position import Checkpoint, Resume

Ending = Literal["more", "rotation", "schema"]


@dataclass(frozen=True, slots=True)
class Stretch:
    """What one stretch of a binlog held.

    Attributes:
        batches: changes of every captured table, each in order; `seq` merges them.
        runs: all transactions, those without changes too.
        carried: the first of them goes on from the stretch before.
        schema_changes: DDL on captured tables.
        checkpoint: where a restart begins when all of it is stored: behind the last transaction that has ended, or the
            begin of the open one and its changes so far.
        end: why it ends here.
        events, transactions: how many of them.
        dropped: changes of tables that are not captured, and of rows of history (shown_tables.py); a statement that was
            logged as text counts as one.
        resume: a place before the XA transactions that were prepared, and not committed, at some time of the stretch.
    """

    batches: tuple[ChangeBatch, ...]
    runs: tuple[Run, ...]
    carried: bool
    schema_changes: tuple[SchemaChange, ...]
    checkpoint: Checkpoint
    end: Ending
    events: int
    transactions: int
    dropped: int
    resume: Resume | None = None

"""The result of the reader: the changes of a range of the binlog, and the checkpoint after it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from binlogsync.change import SchemaChange
from binlogsync.change_batch import ChangeBatch
from binlogsync.flush import TransactionRun
from binlogsync.position import Checkpoint, ResumePosition

EndReason = Literal["more", "rotation", "schema"]


@dataclass(frozen=True, slots=True)
class DecodedRange:
    """The changes, transactions and schema changes of one range of the binlog.

    Attributes:
        batches: changes of every captured table, each in order; `seq` merges them.
        runs: all transactions, including those without changes.
        carried: the first transaction began in an earlier range.
        schema_changes: DDL on captured tables.
        checkpoint: where a restart begins once the whole range is stored: after the last complete transaction, or at
            the start of the open transaction, with the number of its changes stored so far.
        end: why the range ends here.
        events, transactions: number of events and of transactions.
        dropped: number of changes of tables that are not captured, and of history rows (visible_tables.py); a statement
            that was logged as text counts as one.
        resume: a position before every XA transaction that was prepared and not yet committed at any time within the
            range.
    """

    batches: tuple[ChangeBatch, ...]
    runs: tuple[TransactionRun, ...]
    carried: bool
    schema_changes: tuple[SchemaChange, ...]
    checkpoint: Checkpoint
    end: EndReason
    events: int
    transactions: int
    dropped: int
    resume: ResumePosition | None = None

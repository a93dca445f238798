"""Where consumers and replays store changes: what these need from a target. DuckDB is the first implementation.

A new target is a package that implements `TableStore` and `TableTransaction`, and passes tests/targets/contract.py.
"""

from __future__ import annotations

import threading
import time
from abc import abstractmethod
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Protocol

from binlogsync.targets.consumer_transaction import ConsumerTransaction
from binlogsync.targets.mirror_transaction import MirrorTransaction


class TableTransaction(ConsumerTransaction, MirrorTransaction, Protocol):
    """One transaction: everything that is done in it becomes visible and durable at once, or nothing of it."""


@dataclass(frozen=True, slots=True)
class Holder:
    """Another process that keeps a store from being opened.

    Attributes:
        process: its id, with the command line if it may be read.
        since: monotonic time at which it was noticed.
    """

    process: str
    since: float

    @property
    def held_s(self) -> float:
        """Seconds since it was noticed."""
        return time.monotonic() - self.since


class TableStore(Protocol):
    """A file, database or lake in which tables, and the progress of consumers, are stored in one transaction.

    Attributes:
        stop: ends a wait for another process, which raises TargetBusyError then; None if nothing does.
    """

    stop: threading.Event | None = None

    @property
    @abstractmethod
    def address(self) -> str:
        """Where it is: the path of a file, or the address of a server without the password; the same for one store."""

    @abstractmethod
    def begin(self, *, keep_open: bool = False, is_small: bool = False) -> AbstractContextManager[TableTransaction]:
        """One transaction: committed at the end of the block and durable then, or rolled back if the block raises.

        `keep_open` means that another transaction follows at once; the caller calls `release` afterwards. `is_small`
        means that it changes few rows.
        """

    @property
    @abstractmethod
    def is_open(self) -> bool:
        """True while this object keeps something open for which other processes wait."""

    @abstractmethod
    def release(self) -> None:
        """Let other processes in."""

    @property
    def version(self) -> object:
        """A value that differs after each change, if that is known without a transaction; None for a missing store."""
        return object()

    @property
    def holder(self) -> Holder | None:
        """The process that this store waits for, or has waited for in vain; None if it could be opened since."""
        return None

    def another(self) -> TableStore:
        """The same store for another thread; this object itself if several threads may use it at once."""
        return self

    def scratch(self) -> AbstractContextManager[TableStore] | None:
        """An empty store of this kind, for large tables, which is removed at the end of the block.

        None if the store has none: a renamed table is then read from the server, not built from the stream.
        """
        return None

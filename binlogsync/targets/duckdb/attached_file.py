"""Opens and closes a DuckDB file quickly: it is attached to an in-memory database that this process keeps.

To open a database takes about 16 ms of CPU time, and to close it writes every changed block, which takes 10 to 900 ms.
To attach a file takes about 1 ms, and to detach it less, if the changes stay in the write-ahead log beside the file,
which is read when the file is opened again, by this or by another program. A long log is checkpointed: its changes are
written to the file.
"""

from __future__ import annotations

import atexit
import ctypes
import fcntl
import logging
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING
from weakref import WeakSet

from binlogsync.private_files import FILE_MODE, make_file, make_folder
from binlogsync.sql_identifiers import literal, quote_ansi

if TYPE_CHECKING:
    import duckdb

log = logging.getLogger(__name__)

_ATTACHED = "SELECT database_name FROM duckdb_databases() WHERE path IS NOT NULL"
_NEUTRAL = "a_database_in_memory_whose_name_is_longer_than_the_names_of_mysql"
"""The default of new connections; DuckDB's own name, memory, could be the name of a mirrored database."""
_LOG_BYTES = 1 << 20
"""Length of the log from which it is checkpointed: to attach a file with such a log takes about 5 ms."""
_ATTACH_S = 0.005
"""CPU time of attaching a file from which the log is checkpointed: a short log may refer to many rows of the file."""
_LONGEST_LOG_BYTES = 64 << 20
_LARGE_BYTES = 128 << 20
_CHECKPOINT_SHARE = 0.1
"""Below the longest log, checkpoints take at most this share of the time."""


class AttachedFile:
    """One DuckDB file. Not for use by several threads at once.

    Attributes:
        path: of the file.
        storage_version: format in which a missing file is created, like "v1.4.0"; None for the newest.
        log, spill: DuckDB's write-ahead log and its folder for temporary data, next to the file.
        is_open: True while the file is attached.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.storage_version: str | None = None
        self.log = Path(f"{path}.wal")
        self.spill = Path(f"{path}.tmp")
        self.is_open = False
        self._instance: duckdb.DuckDBPyConnection | None = None
        self._name = ""  # of the attached database, which DuckDB derives from the name of the file
        self._identity: tuple[int, int] | None = None
        self._attach_s = self._next_checkpoint = 0.0
        self._has_one_thread = False
        _FILES.add(self)

    def open(self) -> bool:
        """Attach the file, created if it is missing; True if this process attaches this file for the first time, or
        after an error.

        Raises duckdb.Error, OSError.
        """
        make_folder(self.path.parent)
        if not self.path.exists():
            self._create()
            self._identity = None  # the new file may have the inode number of the deleted one
        instance = self._ensure_instance()
        make_folder(self.spill)
        begun = time.thread_time()
        instance.execute(f"ATTACH {literal(str(self.path))}")
        self._attach_s = time.thread_time() - begun
        self.is_open = True
        if not self._name:
            [(self._name,)] = instance.execute(_ATTACHED).fetchall()
        status = self.path.stat()
        before, self._identity = self._identity, (status.st_dev, status.st_ino)
        return before != self._identity

    def cursor(self) -> duckdb.DuckDBPyConnection:
        """A connection for one transaction, in which names refer to the attached file."""
        assert self._instance is not None
        connection = self._instance.cursor()
        connection.execute(f"USE {quote_ansi(self._name)}")
        make_file(self.log)  # DuckDB would create it with permissions of the umask
        return connection

    def use_threads(self, *, one: bool) -> None:
        """Let the next statements run in one thread, or in all threads of DuckDB.

        To divide a statement on few rows costs more than half of its CPU time. In a large file, one key can be searched
        in many rows, so `one` is ignored there.
        """
        assert self._instance is not None
        one = one and self.path.stat().st_size < _LARGE_BYTES
        if one != self._has_one_thread:
            self._instance.execute("SET threads = 1" if one else "RESET threads")
            self._has_one_thread = one

    def close(self) -> None:
        """Detach the file, after a checkpoint if the log is long."""
        import duckdb

        assert self._instance is not None
        try:
            self._checkpoint_long_log(self._instance)
            # Transactions that wrote nothing leave these; only this process uses them while the file is open.
            if self.log.exists() and not self.log.stat().st_size:
                self.log.unlink()
            with suppress(OSError):
                self.spill.rmdir()
            # A handler may have attached other files.
            for (name,) in self._instance.execute(_ATTACHED).fetchall():
                self._instance.execute(f"DETACH {quote_ansi(name)}")
            self.is_open = False
        except duckdb.Error as error:
            log.warning("%s: %s. Nothing is lost: the changes are in %s", self.path, error, self.log)
            self.discard()
        except BaseException:
            self.discard()
            raise

    def discard(self) -> None:
        """Close the file and the database that it is attached to: after some errors DuckDB executes nothing more."""
        instance, self._instance, self.is_open = self._instance, None, False
        self._identity = None  # what failed may be the upgrade of the file
        if instance is not None:
            instance.close()

    def _checkpoint_long_log(self, instance: duckdb.DuckDBPyConnection) -> None:
        size = self.log.stat().st_size if self.log.exists() else 0
        is_long = size >= _LOG_BYTES or (size > 0 and self._attach_s >= _ATTACH_S)
        begun = time.monotonic()
        if not is_long or (size < _LONGEST_LOG_BYTES and begun < self._next_checkpoint):
            return
        instance.execute(f"CHECKPOINT {quote_ansi(self._name)}")
        ended = time.monotonic()
        self._next_checkpoint = ended + (ended - begun) / _CHECKPOINT_SHARE

    def _create(self) -> None:
        """Create the file with access for its owner only: DuckDB uses the umask, and cannot open an empty file."""
        with (
            TemporaryDirectory(prefix=f".{self.path.name}-", dir=self.path.parent) as folder,
            _locked(self.path.parent),
        ):
            if self.path.exists():
                return  # another process has created it
            # A log without a file is that of a file that was deleted; no process can write to it.
            self.log.unlink(missing_ok=True)
            temporary = Path(folder) / self.path.name
            version = f" (STORAGE_VERSION {literal(self.storage_version)})" if self.storage_version else ""
            instance = self._ensure_instance()
            instance.execute(f"ATTACH {literal(str(temporary))} AS created{version}")
            instance.execute("DETACH created")
            temporary.chmod(FILE_MODE)
            with suppress(FileExistsError):  # a program that does not take the lock has created it
                os.link(temporary, self.path)

    def abandon(self) -> None:
        """Forget the database in a forked process, where its threads do not run; closing it would wait for them."""
        if self._instance is not None:
            ctypes.pythonapi.Py_IncRef(ctypes.py_object(self._instance))  # never freed
        self._instance, self.is_open = None, False

    def _ensure_instance(self) -> duckdb.DuckDBPyConnection:
        import duckdb

        if self._instance is None:
            instance = duckdb.connect(":memory:")
            for statement in (
                f"ATTACH ':memory:' AS {_NEUTRAL}",
                f"USE {_NEUTRAL}",
                "DETACH memory",
                "SET checkpoint_on_detach = 'DISABLED'",
                "SET checkpoint_threshold = '256MB'",
                f"SET temp_directory = {literal(str(self.spill))}",
            ):
                instance.execute(statement)
            self._instance, self._has_one_thread = instance, False
        return self._instance


_FILES: WeakSet[AttachedFile] = WeakSet()


def _abandon_all() -> None:
    for file in list(_FILES):
        file.abandon()


def _discard_all() -> None:
    """Free the connections that no thread uses; DuckDB's binding reports those that outlive the interpreter."""
    for file in list(_FILES):
        if not file.is_open:
            file.discard()


os.register_at_fork(after_in_child=_abandon_all)
atexit.register(_discard_all)


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """One process at a time creates a file in the folder."""
    number = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(number, fcntl.LOCK_EX)
        yield
    finally:
        os.close(number)

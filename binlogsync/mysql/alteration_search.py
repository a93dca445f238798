"""Whether a table was altered between a place in the binlog and the end of it: the log itself says so.

INFORMATION_SCHEMA shows a table as it is now. Rows that were logged earlier can be named by it only if no DDL lies
between; the statements of that stretch of the log are read once and remembered, so that asking for many tables costs
one pass.
"""

from __future__ import annotations

import numpy as np

from binlogsync.binlog.alterations import Alteration, AlterationReader
from binlogsync.errors import SourceError
from binlogsync.mysql.config import MySQLConfig
from binlogsync.mysql.dump import BinlogDump
from binlogsync.mysql.server_errors import raise_server_error
from binlogsync.position import BinlogPosition, Checkpoint
from binlogsync.table_names import Fold, keep_case

_CHUNK = 4 << 20


class AlterationSearch:
    """Answers for one server; see the module. An instance is called with (database, table, place)."""

    def __init__(self, config: MySQLConfig, server_uuid: str, fold: Fold = keep_case) -> None:
        self._config = config
        self._server_uuid = server_uuid
        self._fold = fold
        self._from: BinlogPosition | None = None
        self._to: BinlogPosition | None = None
        self._found: list[Alteration] = []

    def __call__(self, database: str, table: str, place: BinlogPosition) -> BinlogPosition | None:
        """The place behind the first statement after `place` that may have altered the table; None without one.

        Raises SourceError when the log cannot be read.
        """
        if self._from is None or self._to is None or not self._from <= place <= self._to:
            self._from = self._to = place
            self._found = []
        self._look_on(self._to)
        behind = (found.position for found in self._found if found.position > place and found.affects(database, table))
        return next(behind, None)

    def _look_on(self, start: BinlogPosition) -> None:
        """From the end of what is known to the end of the log."""
        reader = AlterationReader(start, self._fold, mariadb=self._server_uuid.startswith("mariadb:"))
        buffer = np.empty(_CHUNK, np.uint8)
        with BinlogDump(self._config, Checkpoint(start, self._server_uuid), blocking=False) as dump:
            while not reader.parser.ended:
                size = dump.readinto(buffer.data)
                if not size:
                    break
                try:
                    self._found.extend(reader.feed(buffer, 0, size))
                except ValueError as error:
                    raise SourceError(f"{self._config.address}: {error}") from error
                if reader.parser.server_error is not None:
                    raise_server_error(reader.parser.server_error)
        self._to = reader.position

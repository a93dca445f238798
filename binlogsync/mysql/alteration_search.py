"""Finds out whether a table was altered after a position in the binlog, by reading the rest of the log.

INFORMATION_SCHEMA describes a table as it is now. It applies to rows that were logged earlier only if there was no DDL
since; the statements of that range of the log are read once and cached, so that many tables require only one pass.
"""

from __future__ import annotations

import numpy as np

from binlogsync.binlog.alterations import Alteration, AlterationReader
from binlogsync.errors import SourceError
from binlogsync.mysql.config import MySQLConfig
from binlogsync.mysql.dump import BinlogDump
from binlogsync.mysql.server_errors import raise_server_error
from binlogsync.position import BinlogPosition, Checkpoint
from binlogsync.position_order import PositionOrder, compare
from binlogsync.server_version import ServerFlavor, flavor_of
from binlogsync.table_names import Fold, keep_case

_CHUNK = 4 << 20


class AlterationSearch:
    """Searches the log of one server; see the module. Call an instance with (database, table, position)."""

    def __init__(self, config: MySQLConfig, server_uuid: str, fold: Fold = keep_case) -> None:
        self._config = config
        self._server_uuid = server_uuid
        self._fold = fold
        self._from: BinlogPosition | None = None
        self._to: BinlogPosition | None = None
        self._found: list[Alteration] = []

    def __call__(self, database: str, table: str, position: BinlogPosition) -> BinlogPosition | None:
        """The position after the first statement after `position` that may have altered the table; None without one.

        Raises SourceError when the log cannot be read.
        """
        if self._from is None or self._to is None or not _is_between(self._from, position, self._to):
            self._from = self._to = position
            self._found = []
        self._read_on(self._to)
        behind = (
            found.position
            for found in self._found
            if compare(found.position, position) is PositionOrder.AFTER and found.affects(database, table)
        )
        return next(behind, None)

    def _read_on(self, start: BinlogPosition) -> None:
        """Read from the end of the cached range to the end of the log."""
        reader = AlterationReader(start, self._fold, mariadb=flavor_of(self._server_uuid) == ServerFlavor.MARIADB)
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


def _is_between(first: BinlogPosition, position: BinlogPosition, last: BinlogPosition) -> bool:
    return compare(first, position).is_at_or_before and compare(position, last).is_at_or_before

"""Finds the changes of an XA transaction that was prepared before reading started.

They are logged when the transaction is prepared, and take effect at its XA COMMIT, which may be logged much later. A
reader that meets an XA COMMIT without its changes reads again from before the XA PREPARE, and filters the changes
between, as after a restart (`Checkpoint.resume`).
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import replace

import numpy as np

from binlogsync.binlog.prepare_finder import PrepareFinder
from binlogsync.errors import DecodeError, MissingPrepareError, SourceError
from binlogsync.mysql.config import MySQLConfig
from binlogsync.mysql.server import ServerInfo, inspect_server
from binlogsync.mysql.server_errors import raise_server_error
from binlogsync.mysql.start import checkpoint_at, file_dump
from binlogsync.position import BinlogPosition, Checkpoint, ResumePosition
from binlogsync.position_order import PositionOrder, compare

log = logging.getLogger(__name__)

_CHUNK = 4 << 20


def find_xa_prepare(
    config: MySQLConfig, start: Checkpoint, missing: MissingPrepareError, may_continue: Callable[[], bool]
) -> Checkpoint | None:
    """`start`, with reading from before the XA PREPARE of the missing transaction.

    None when `may_continue`, which is called regularly, returns False. Raises DecodeError when the binlogs no longer
    contain the XA PREPARE, SourceError when they cannot be read.
    """
    info = inspect_server(config)
    end = BinlogPosition(missing.file, missing.pos)
    for file in reversed(info.files):
        if compare(BinlogPosition(file.name, 0), end) is PositionOrder.AFTER:
            continue
        log.info("%s: looking in %s for where XA transaction %s was prepared", config.source, file.name, missing.xid)
        position = _prepared_in(config, info, file.name, (missing.xid, end), may_continue)
        if position is not None:
            gtids = None if start.gtids is None else checkpoint_at(config, info, position).gtids
            return replace(start, resume=ResumePosition(position, gtids))
        if not may_continue():
            return None
    raise DecodeError(
        f"XA COMMIT {missing.xid} commits changes that were logged when they were prepared, and the binlogs, which "
        f"reach back to {info.files[0].name}, no longer contain them; start after this position with new snapshots of "
        "the tables",
        file=missing.file,
        pos=missing.pos,
    ) from missing


def _prepared_in(
    config: MySQLConfig,
    info: ServerInfo,
    file: str,
    wanted: tuple[str, BinlogPosition],
    may_continue: Callable[[], bool],
) -> BinlogPosition | None:
    """Where the last transaction with that xid begins that a file prepares before a position; None without one."""
    xid, end = wanted
    finder = PrepareFinder(xid, end.pos if end.file == file else None)
    buffer = np.empty(_CHUNK, np.uint8)
    with file_dump(config, info, file) as dump:
        while not finder.is_over and may_continue():
            size = dump.readinto(buffer.data)
            if not size:
                raise SourceError(f"{config.address} closed the dump of {file}, before the XA PREPARE was found")
            try:
                finder.feed(buffer, 0, size)
            except ValueError as error:
                raise SourceError(f"{config.address}: {file}: {error}") from error
            if finder.server_error is not None:
                raise_server_error(finder.server_error)
    return BinlogPosition(file, finder.found) if finder.is_over and finder.found is not None else None

"""Where the binlog holds the changes of an XA transaction that was prepared before reading began.

They are logged when the transaction is prepared, and are changes when its XA COMMIT is logged, however much later. Who
meets an XA COMMIT without having read the changes reaches back: reads again from before them, and drops what lies
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

log = logging.getLogger(__name__)

_CHUNK = 4 << 20


def find_xa_prepare(
    config: MySQLConfig, start: Checkpoint, missing: MissingPrepareError, goes_on: Callable[[], bool]
) -> Checkpoint | None:
    """`start`, to be read from before the place where what is missing was prepared.

    None when `goes_on`, which is asked now and then, says no. Raises DecodeError when the binlogs do not hold that
    place any more, SourceError when they cannot be read.
    """
    info = inspect_server(config)
    end = BinlogPosition(missing.file, missing.pos)
    for file in reversed(info.files):
        if file.number > end.file_number:
            continue
        log.info("%s: looking in %s for where XA transaction %s was prepared", config.source, file.name, missing.xid)
        place = _prepared_in(config, info, file.name, (missing.xid, end), goes_on)
        if place is not None:
            gtids = None if start.gtids is None else checkpoint_at(config, info, place).gtids
            return replace(start, resume=ResumePosition(place, gtids))
        if not goes_on():
            return None
    raise DecodeError(
        f"XA COMMIT {missing.xid} commits changes that were logged when they were prepared, and the binlogs, which "
        f"reach back to {info.files[0].name}, do not hold them any more; begin behind this place with new copies of "
        "the tables",
        file=missing.file,
        pos=missing.pos,
    ) from missing


def _prepared_in(
    config: MySQLConfig, info: ServerInfo, file: str, wanted: tuple[str, BinlogPosition], goes_on: Callable[[], bool]
) -> BinlogPosition | None:
    """Where the transaction of that name begins that was prepared last in a file, before a place; None without one."""
    xid, end = wanted
    finder = PrepareFinder(xid, end.pos if end.file == file else None)
    buffer = np.empty(_CHUNK, np.uint8)
    with file_dump(config, info, file) as dump:
        while not finder.is_over and goes_on():
            size = dump.readinto(buffer.data)
            if not size:
                raise SourceError(f"{config.address} closed the dump of {file}, in which a transaction is looked for")
            try:
                finder.feed(buffer, 0, size)
            except ValueError as error:
                raise SourceError(f"{config.address}: {file}: {error}") from error
            if finder.server_error is not None:
                raise_server_error(finder.server_error)
    return BinlogPosition(file, finder.found) if finder.is_over and finder.found is not None else None

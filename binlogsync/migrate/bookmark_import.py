"""Imports the position of another tool as a bookmark, so that the tail can start there without a gap.

The position is a GTID set if the tool has one, else file and position, which must be between two transactions in the
binlog of this server. If the other tool has processed a part of a transaction, the tail delivers all of it again.
"""

from __future__ import annotations

import time

from binlogsync.bookmarks import Bookmark
from binlogsync.errors import ConfigError, PositionError
from binlogsync.migrate.positions import ForeignPosition, read_position
from binlogsync.mysql import MySQLConfig, inspect_server, resolve_start
from binlogsync.position import Checkpoint
from binlogsync.stores import PositionStore


def import_bookmark(
    config: MySQLConfig, store: PositionStore, source: str, text: str, name: str = ""
) -> tuple[Bookmark, ForeignPosition]:
    """Store a pinned bookmark at the position in `text` (see migrate/positions.py), by default named after the tool.

    Raises ConfigError if the text is not a position, PositionError if this server does not have the position.
    """
    foreign = read_position(text)
    checkpoint = _find_checkpoint(config, foreign)
    now_us = int(time.time() * 1e6)
    bookmark = Bookmark(checkpoint, "import", foreign.at_us or now_us, now_us, name or foreign.tool, pinned=True)
    store.bookmarks.put(source, bookmark)
    return bookmark, foreign


def _find_checkpoint(config: MySQLConfig, foreign: ForeignPosition) -> Checkpoint:
    info = inspect_server(config)
    if foreign.gtids and info.gtids:
        return resolve_start(config, foreign.gtids)
    if foreign.position is None:
        raise ConfigError("the position is a GTID set, and this server has no GTIDs (gtid_mode is not ON)")
    if foreign.server_id is not None and foreign.server_id != info.server_id:
        raise PositionError(
            f"{foreign.position} is from the server with id {foreign.server_id}, and this one has id {info.server_id}: "
            "without GTIDs it is not valid here; connect to that server"
        )
    return resolve_start(config, foreign.position)


def describe(bookmark: Bookmark, foreign: ForeignPosition) -> str:
    """A message for the user: what was imported, and how to use it."""
    again = (
        f"\n{foreign.tool} has processed {foreign.done_inside} events of the transaction that starts there: all of its "
        "changes are delivered again, so none is missing"
        if foreign.done_inside
        else ""
    )
    return (
        f"{foreign.tool}'s position is stored as bookmark {bookmark.key}{again}\n"
        f"start there with: BINLOGSYNC_START=bookmark:{bookmark.name}"
    )

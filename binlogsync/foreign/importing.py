"""A bookmark at the place where another tool is, so that the tail begins there: without a gap.

By GTIDs where the tool knows them, else by file and position, which has to be a place between transactions of this very
server's log. Of a transaction that the other tool has done in part all changes come again.
"""

from __future__ import annotations

import time

from binlogsync.bookmarks import Bookmark
from binlogsync.errors import ConfigError, PositionError
from binlogsync.foreign.positions import ForeignPosition, read_position
from binlogsync.mysql import MySQLConfig, inspect_server, resolve_start
from binlogsync.position import Checkpoint
from binlogsync.stores import PositionStore


def import_bookmark(
    config: MySQLConfig, store: PositionStore, source: str, text: str, name: str = ""
) -> tuple[Bookmark, ForeignPosition]:
    """Keep a pinned bookmark at the position in `text` (see foreign/positions.py), named after its tool by default.

    Raises ConfigError for a text that is no position, PositionError for one that this server does not hold.
    """
    foreign = read_position(text)
    place = _place(config, foreign)
    now_us = int(time.time() * 1e6)
    bookmark = Bookmark(place, "import", foreign.at_us or now_us, now_us, name or foreign.tool, pinned=True)
    store.put_bookmark(source, bookmark)
    return bookmark, foreign


def _place(config: MySQLConfig, foreign: ForeignPosition) -> Checkpoint:
    info = inspect_server(config)
    if foreign.gtids and info.gtids:
        return resolve_start(config, foreign.gtids)
    if foreign.position is None:
        raise ConfigError("the position has GTIDs only, and this server has none (gtid_mode is not ON)")
    if foreign.server_id is not None and foreign.server_id != info.server_id:
        raise PositionError(
            f"{foreign.position} is of the server with id {foreign.server_id}, and this one has id {info.server_id}: "
            "without GTIDs it says nothing here; connect to that server"
        )
    return resolve_start(config, foreign.position)


def describe(bookmark: Bookmark, foreign: ForeignPosition) -> str:
    """What was imported and what to do with it, for people."""
    again = (
        f"\n{foreign.tool} has done {foreign.done_inside} events of the transaction that begins there: its changes "
        "come again as a whole, so that none is missing"
        if foreign.done_inside
        else ""
    )
    return (
        f"{foreign.tool}'s position is kept as bookmark {bookmark.key}{again}\n"
        f"begin there with: BINLOGSYNC_START=bookmark:{bookmark.name}"
    )

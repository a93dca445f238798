"""`binlogsync rewind`: sets a consumer whose progress lies in the warehouse back to a place, or forward."""

from __future__ import annotations

import getpass
from argparse import Namespace
from contextlib import closing

from binlogsync.backfill.opening import Asked, open_holders
from binlogsync.commands.output import parse_table, say
from binlogsync.duckfile import DuckFile
from binlogsync.errors import ConsumeError
from binlogsync.progress import DuckProgress, ProgressKey
from binlogsync.rewind import Move, rewind
from binlogsync.settings import Settings

_PATIENCE_S = 10.0


def run(settings: Settings, arguments: Namespace) -> int:
    """Move it, and say what that means. Raises BinlogSyncError."""
    asked = Asked(settings.source(arguments.source), *parse_table(arguments.table))
    key = ProgressKey(arguments.client, asked.source, asked.database, asked.table)
    progress = DuckProgress(DuckFile(settings.warehouse_path(), error=ConsumeError))
    move = Move(key=key, to=arguments.to, reason=arguments.reason, who=getpass.getuser(), rebuild=arguments.rebuild)
    with (
        closing(settings.positions()) as store,
        open_holders(asked, settings.mysql(asked.source), settings.nats(_PATIENCE_S), store) as holders,
    ):
        say(f"{key}: {rewind(holders, progress, move, settings.audit_path())}")
    return 0

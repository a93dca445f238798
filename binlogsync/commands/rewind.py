"""`binlogsync rewind`: moves a consumer back to a position, or forward over a range."""

from __future__ import annotations

import getpass
from argparse import Namespace
from contextlib import closing

from binlogsync.commands.output import say
from binlogsync.commands.progress_store import NATS_TIMEOUT_S, open_progress
from binlogsync.commands.tables import read_table
from binlogsync.consume.progress import ProgressKey
from binlogsync.consume.rewind import RewindRequest, rewind
from binlogsync.replay.factory import SourceTable, open_sources
from binlogsync.settings import Settings


def run(settings: Settings, arguments: Namespace) -> int:
    """Move the consumer and report the effect. Raises BinlogSyncError."""
    source = settings.source(arguments.source)
    asked = SourceTable(source, *read_table(settings, source, arguments.table))
    key = ProgressKey(arguments.client, asked.source, asked.database, asked.table)
    move = RewindRequest(
        key=key, to=arguments.to, reason=arguments.reason, who=getpass.getuser(), rebuild=arguments.rebuild
    )
    with (
        closing(settings.positions()) as store,
        open_progress(settings, key, arguments.progress) as progress,
        open_sources(asked, settings.mysql(asked.source), settings.nats(NATS_TIMEOUT_S), store) as sources,
    ):
        say(f"{key}: {rewind(sources, progress, move, settings.audit_path())}")
    return 0

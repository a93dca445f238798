"""`binlogsync rewind`: moves a consumer back to a position, or forward over a range."""

from __future__ import annotations

import getpass
from argparse import Namespace
from contextlib import closing

from binlogsync.cli.output import write_message
from binlogsync.cli.progress_store import NATS_TIMEOUT_S, open_progress
from binlogsync.cli.table_argument import read_table
from binlogsync.consume.progress import ProgressKey
from binlogsync.replay.factory import SourceTable, open_sources
from binlogsync.replay.rewind import RewindRequest, rewind
from binlogsync.settings import Settings


def run(settings: Settings, arguments: Namespace) -> int:
    """Move the consumer and report the effect. Raises BinlogSyncError."""
    source = settings.source(arguments.source)
    table = SourceTable(source, *read_table(settings, source, arguments.table))
    key = ProgressKey(arguments.client, table.source, table.database, table.table)
    request = RewindRequest(
        key=key, to=arguments.to, reason=arguments.reason, who=getpass.getuser(), rebuild=arguments.rebuild
    )
    with (
        closing(settings.positions()) as store,
        open_progress(settings, key, arguments.progress) as progress,
        open_sources(table, settings.mysql(table.source), settings.nats(NATS_TIMEOUT_S), store) as sources,
    ):
        write_message(f"{key}: {rewind(sources, progress, request, settings.audit_path())}")
    return 0

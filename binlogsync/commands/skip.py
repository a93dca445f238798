"""`binlogsync skip`: move a consumer over the one change that holds it up, with a reason that is kept."""

from __future__ import annotations

import getpass
import socket
from argparse import Namespace
from pathlib import Path

from binlogsync.commands.output import say
from binlogsync.duckfile import DuckFile
from binlogsync.errors import ConfigError, ConsumeError
from binlogsync.nats_client import NatsConnection
from binlogsync.progress import DuckProgress, ProgressKey
from binlogsync.progress_nats import NatsProgress
from binlogsync.settings import Settings
from binlogsync.sinks.audit_skips import record_skip
from binlogsync.skips import Skip, skip_change
from binlogsync.stream import StreamReader

DAGSTER = "dagster"
_PATIENCE_S = 10.0


def run(settings: Settings, arguments: Namespace) -> int:
    """Skip it, and say so. Raises BinlogSyncError."""
    database, dot, table = arguments.table.partition(".")
    if not dot or not database or not table:
        raise ConfigError(f'{arguments.table!r} names no table; write "database.table", for instance "shop.orders"')
    source = settings.source(arguments.source)
    key = ProgressKey(arguments.client_id, source, database, table)
    skip = _skip(settings, key, arguments)
    if (audit := settings.audit_path()) is not None:
        record_skip(audit, skip)
    say(f"{key}: change {skip.change_id} (op {skip.op}, {skip.position}) is skipped since {skip.at:%Y-%m-%d %H:%M:%SZ}")
    return 0


def _skip(settings: Settings, key: ProgressKey, arguments: Namespace) -> Skip:
    """Where its progress is: in the file that was named, in the warehouse for Dagster's consumers, else in NATS."""
    path: Path | None = arguments.progress or (settings.warehouse_path() if key.client == DAGSTER else None)
    if path is not None and not path.exists():
        raise ConfigError(f"{path} does not exist, so it holds no progress; name the file with --progress")
    options = settings.nats(_PATIENCE_S)
    by = arguments.by or f"{getpass.getuser()} on {socket.gethostname()}"
    change = (arguments.change_id, arguments.reason, by)
    with StreamReader(options, key.source) as reader:
        if path is not None:
            return skip_change(reader, key, DuckProgress(DuckFile(path, error=ConsumeError)), *change)
        with NatsConnection(options, "binlogsync skip") as connection:
            return skip_change(reader, key, NatsProgress(connection, key.source), *change)

"""`binlogsync skip`: skips the one change that blocks a consumer, for a reason that is recorded."""

from __future__ import annotations

import getpass
import socket
from argparse import Namespace

from binlogsync.cli.output import write_message
from binlogsync.cli.progress_store import NATS_TIMEOUT_S, open_progress
from binlogsync.cli.table_argument import read_table
from binlogsync.consume.progress import ProgressKey
from binlogsync.consume.skips import Skip, skip_change
from binlogsync.nats.reader import StreamReader
from binlogsync.settings import Settings
from binlogsync.sinks.audit_records import record_skip


def run(settings: Settings, arguments: Namespace) -> int:
    """Skip the change and report it. Raises BinlogSyncError."""
    source = settings.source(arguments.source)
    key = ProgressKey(arguments.client, source, *read_table(settings, source, arguments.table))
    skip = _skip(settings, key, arguments)
    if (audit := settings.audit_path()) is not None:
        record_skip(audit, skip)
    write_message(
        f"{key}: change {skip.change_id} (op {skip.op}, {skip.position}) was skipped at {skip.at:%Y-%m-%d %H:%M:%SZ}"
    )
    return 0


def _skip(settings: Settings, key: ProgressKey, arguments: Namespace) -> Skip:
    by = arguments.by or f"{getpass.getuser()} on {socket.gethostname()}"
    change = (arguments.change_id, arguments.reason, by)
    with (
        open_progress(settings, key, arguments.progress) as store,
        StreamReader(settings.nats(NATS_TIMEOUT_S), key.source) as reader,
    ):
        return skip_change(reader, key, store, *change)

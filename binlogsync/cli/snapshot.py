"""`binlogsync snapshot`: has the tail publish the existing rows of tables into the stream, and controls that.

The request is stored in NATS, and the tail of the source, on any machine, carries it out. Ctrl-C ends only the
command.
"""

from __future__ import annotations

from argparse import Namespace
from contextlib import closing

from binlogsync.cli.output import write_line, write_message
from binlogsync.codec.subjects import snapshot_prefix
from binlogsync.progress_bar import ProgressBar
from binlogsync.settings import Settings
from binlogsync.signals import stop_on_signals
from binlogsync.snapshot import control
from binlogsync.snapshot.consumer_tables import check_consumer
from binlogsync.snapshot.requests import SnapshotRequests, StoredSnapshot, new_request

_NATS_TIMEOUT_S = 10.0


def run(settings: Settings, arguments: Namespace) -> int:
    """Request a snapshot and follow it, or act on one; 1 if it failed or was cancelled. Raises BinlogSyncError."""
    source = settings.source(arguments.source)
    with closing(settings.snapshots(source)) as requests:
        if arguments.action is None:
            return _request(settings, requests, source, arguments)
        if arguments.action == "status":
            return _show(requests, arguments.id)
        found = control.find_snapshot(requests, arguments.id)
        write_line(control.describe(control.ACTIONS[arguments.action](requests, found.request.id)))
    return 0


def _request(settings: Settings, requests: SnapshotRequests, source: str, arguments: Namespace) -> int:
    subject = None
    if arguments.consumer is not None:
        # Imported here because it loads what reads messages, which other requests do not need.
        from binlogsync.nats.snapshot_readers import list_readers

        check_consumer(arguments.consumer, list_readers(settings.nats(_NATS_TIMEOUT_S), source))
        subject = snapshot_prefix(source, arguments.consumer)
    request = new_request(arguments.what, arguments.where, subject, arguments.rows_per_second)
    requests.create(request)
    write_line(request.id)
    write_message(f"snapshot {request.id} of {', '.join(request.patterns)} requested from the tail of {source}")
    if arguments.no_wait:
        return 0
    with stop_on_signals() as stop:
        bar, last = ProgressBar(f"snapshot {request.id}:"), ("", "")
        for stored in control.follow(requests, request.id, stop):
            state = stored.status.state, stored.status.error
            if state != last and state[0] in ("waiting", "paused"):
                write_message(control.describe(stored))
            last = state
            bar.update(control.share(stored), _progress(stored))
        if not stored.status.has_ended:
            bar.done(f"the tail continues it; see binlogsync snapshot status {request.id}")
            return 0
        bar.done(_progress(stored))
    return _finish(stored)


def _progress(stored: StoredSnapshot) -> str:
    """The progress of the table that is being read; of the whole when none is."""
    for name, table in zip(control.table_names(stored), stored.status.tables, strict=False):
        if table.state == "running":
            return f"{name}: {control.table_progress(stored, table)}"
    return control.describe(stored).removeprefix(f"{stored.request.id} ")


def _finish(stored: StoredSnapshot) -> int:
    """Write what failed; the exit code."""
    for line in control.failed_tables(stored):
        write_message(line)
    return int(control.has_failed(stored))


def _show(requests: SnapshotRequests, id: str | None) -> int:
    if id is None:
        stored = requests.list()
        for each in stored:
            write_line(control.describe(each))
        if not stored:
            write_message("no snapshot was requested")
        return 0
    found = control.find_snapshot(requests, id)
    write_line(control.describe(found))
    for line in control.describe_tables(found):
        write_line(line)
    return int(control.has_failed(found))

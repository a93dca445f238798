"""`binlogsync gaps`: lists the gaps of a consumer, and accepts them for a reason that is recorded."""

from __future__ import annotations

import getpass
import socket
from argparse import Namespace

from binlogsync.cli.output import write_message
from binlogsync.cli.progress_store import open_progress
from binlogsync.cli.table_argument import read_table
from binlogsync.consume.gaps import acknowledge_gaps, gaps_of
from binlogsync.consume.progress import ProgressKey
from binlogsync.settings import Settings


def run(settings: Settings, arguments: Namespace) -> int:
    """Exit code 1 while a gap is open. Raises BinlogSyncError."""
    source = settings.source(arguments.source)
    key = ProgressKey(arguments.client, source, *read_table(settings, source, arguments.table))
    with open_progress(settings, key, arguments.progress) as store:
        if arguments.acknowledge is not None:
            by = arguments.by or f"{getpass.getuser()} on {socket.gethostname()}"
            acknowledge_gaps(store, key, arguments.acknowledge, by)
        found = gaps_of(store, key)
    for gap in found:
        write_message(f"{'closed' if gap.resolution else 'OPEN':<6} {gap.kind}: {gap}")
    if not found:
        write_message(f"{key}: no gap was found so far")
    return int(any(not gap.resolution for gap in found))

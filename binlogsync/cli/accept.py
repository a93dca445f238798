"""`binlogsync accept`: accepts the new columns of a mirror whose columns are frozen."""

from __future__ import annotations

from argparse import Namespace

from binlogsync.cli.output import write_message
from binlogsync.cli.progress_store import open_progress
from binlogsync.cli.table_argument import read_table
from binlogsync.consume.progress import ProgressKey
from binlogsync.errors import ConfigError
from binlogsync.mirror.contract import accept_columns
from binlogsync.settings import Settings


def run(settings: Settings, arguments: Namespace) -> int:
    """Store the acceptance. Raises BinlogSyncError."""
    source = settings.source(arguments.source)
    key = ProgressKey(arguments.client, source, *read_table(settings, source, arguments.table))
    with open_progress(settings, key, arguments.progress) as store:
        if store.tables is None:
            raise ConfigError(f"{key}: give the file of the mirror with --progress")
        accept_columns(store.tables, (key.database, key.table), arguments.columns_id)
    write_message(
        f"{key}: stored that the columns {arguments.columns_id} are accepted; if the error of the mirror shows this "
        "id, its next attempt continues"
    )
    return 0

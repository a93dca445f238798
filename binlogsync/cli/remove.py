"""`binlogsync remove`: removes a consumer, or a whole source, with what is stored for it."""

from __future__ import annotations

import getpass
import socket
from argparse import Namespace
from contextlib import closing
from pathlib import Path

from binlogsync.cli.output import write_message
from binlogsync.cli.progress_store import DAGSTER, NATS_TIMEOUT_S
from binlogsync.cli.table_argument import read_table
from binlogsync.consume.progress import ProgressKey
from binlogsync.errors import ConfigError
from binlogsync.nats.reader import StreamReader
from binlogsync.removal import PROGRESS_OF, remove_source, remove_table
from binlogsync.settings import Settings
from binlogsync.table_list import table_list_path
from binlogsync.targets import TableStore
from binlogsync.targets.factory import open_store


def run(settings: Settings, arguments: Namespace) -> int:
    """Remove, and print what was deleted. Raises BinlogSyncError."""
    source = settings.source(arguments.source)
    target, missing = _open_target(settings, arguments), ""
    if arguments.whole_source is not None:
        deleted = _remove_source(settings, target, source, arguments)
    else:
        key = ProgressKey(arguments.client, source, *read_table(settings, source, arguments.table))
        nats = settings.nats(NATS_TIMEOUT_S)
        with StreamReader(nats, source) as reader:
            deleted = remove_table(nats, reader, target, key, drop=arguments.drop)
        if arguments.drop and not any(line.startswith(PROGRESS_OF) for line in deleted):
            places = "NATS" if target is None else f"{target.address} or NATS"
            missing = f"; no progress of {key} is in {places}: if another file contains it, name that with --progress"
    for line in deleted:
        write_message(f"deleted {line}")
    if not deleted or missing:
        write_message(f"there was nothing {'else ' if deleted else ''}to delete{missing}")
    return 0


def _remove_source(settings: Settings, target: TableStore | None, source: str, arguments: Namespace) -> list[str]:
    if arguments.whole_source != source:
        raise ConfigError(f"--whole-source {arguments.whole_source!r} is not the source {source!r}; repeat its name")
    owner = f"binlogsync remove by {getpass.getuser()} on {socket.gethostname()}"
    with closing(settings.positions()) as positions:
        deleted = remove_source(
            settings.nats(NATS_TIMEOUT_S), positions, target, source, owner=owner, drop=arguments.drop,
        )  # fmt: skip
    path = table_list_path(settings.table_lists(), source)
    if path.exists():
        path.unlink()
        deleted.append(f"the list of tables {path}")
    return deleted


def _open_target(settings: Settings, arguments: Namespace) -> TableStore | None:
    """The file with the client's progress; None if there is none. Raises ConfigError if the given one is missing."""
    path: Path | None = arguments.progress or (settings.warehouse_path() if arguments.client == DAGSTER else None)
    if arguments.progress is not None and not arguments.progress.exists():
        raise ConfigError(f"{arguments.progress} does not exist, so it contains no progress; correct --progress")
    return open_store(path) if path is not None and path.exists() else None

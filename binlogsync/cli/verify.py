"""`binlogsync verify`: compares mirrors with their tables, row by row, at one binlog position; one line per table.

With `--repair` the rows that differ are read again, and replaced in the mirror (mirror/repair.py).
"""

from __future__ import annotations

import getpass
from argparse import Namespace
from concurrent.futures import ThreadPoolExecutor

from binlogsync.cli.output import write_line
from binlogsync.cli.progress_store import NATS_TIMEOUT_S
from binlogsync.cli.table_argument import read_table
from binlogsync.errors import BinlogSyncError
from binlogsync.mirror.repair import Repairer
from binlogsync.mirror.verify import Verifier, VerifyOptions
from binlogsync.nats.reader import StreamReader
from binlogsync.settings import Settings
from binlogsync.targets.factory import open_store

EQUAL, DIFFERS, NOT_COMPARED = 0, 1, 3
_WORKERS = 8


def run(settings: Settings, arguments: Namespace) -> int:
    """Compare several tables at a time. Exit code 1 when one differs, else 3 when one could not be compared.

    Raises ConfigError for an unknown source.
    """
    source = settings.source(arguments.source)
    options = VerifyOptions(client_id=arguments.client_id, timeout_s=arguments.timeout)
    is_repair = arguments.repair
    codes = set()
    with ThreadPoolExecutor(min(len(arguments.tables), _WORKERS), thread_name_prefix="verify") as pool:
        compared = pool.map(
            lambda name: _compare(settings, source, name, options, is_repair=is_repair), arguments.tables
        )
        for lines, code in compared:
            for line in lines:
                write_line(line)
            codes.add(code)
    return next(code for code in (DIFFERS, NOT_COMPARED, EQUAL) if code in codes)


def _compare(
    settings: Settings, source: str, name: str, options: VerifyOptions, *, is_repair: bool
) -> tuple[list[str], int]:
    """The lines of one table, and its exit code; a line contains the reason when it cannot be compared.

    A repair has a line for each record of what it changed, and the line of the comparison after it.
    """
    lines: list[str] = []
    try:
        table = read_table(settings, source, name)
        with StreamReader(settings.nats(NATS_TIMEOUT_S), source) as reader:
            verifier = Verifier(reader, settings.mysql(source), open_store(settings.warehouse_path()), options)
            if not is_repair:
                found = verifier.verify(*table)
                return [f"{name}: {found}"], EQUAL if found.is_equal else DIFFERS
            done = Repairer(verifier, getpass.getuser(), lambda record: lines.append(f"{name}: repaired {record}"))
            repair = done.repair(*table)
    except BinlogSyncError as error:
        return [*lines, f"{name}: not compared: {error}"], NOT_COMPARED
    return [*lines, f"{name}: {repair}"], EQUAL if repair.after.is_equal else DIFFERS

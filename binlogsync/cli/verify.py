"""`binlogsync verify`: compares mirrors with their tables, row by row, at one binlog position; one line per table."""

from __future__ import annotations

from argparse import Namespace
from concurrent.futures import ThreadPoolExecutor

from binlogsync.cli.output import write_line
from binlogsync.cli.progress_store import NATS_TIMEOUT_S
from binlogsync.cli.tables import read_table
from binlogsync.errors import BinlogSyncError, ConsumeError
from binlogsync.mirror.verify import Verifier, VerifyOptions
from binlogsync.nats.reader import StreamReader
from binlogsync.settings import Settings
from binlogsync.targets.duckdb.file import DuckFile

EQUAL, DIFFERS, NOT_COMPARED = 0, 1, 3
_WORKERS = 8


def run(settings: Settings, arguments: Namespace) -> int:
    """Compare several tables at a time. Exit code 1 when one differs, else 3 when one could not be compared.

    Raises ConfigError for an unknown source.
    """
    source = settings.source(arguments.source)
    options = VerifyOptions(client_id=arguments.client_id, timeout_s=arguments.timeout)
    codes = set()
    with ThreadPoolExecutor(min(len(arguments.tables), _WORKERS), thread_name_prefix="verify") as pool:
        for line, code in pool.map(lambda name: _compare(settings, source, name, options), arguments.tables):
            write_line(line)
            codes.add(code)
    return next(code for code in (DIFFERS, NOT_COMPARED, EQUAL) if code in codes)


def _compare(settings: Settings, source: str, name: str, options: VerifyOptions) -> tuple[str, int]:
    """The line of one table, and its exit code; the line contains the reason when it cannot be compared."""
    try:
        table = read_table(settings, source, name)
        with StreamReader(settings.nats(NATS_TIMEOUT_S), source) as reader:
            file = DuckFile(settings.warehouse_path(), error=ConsumeError)
            found = Verifier(reader, settings.mysql(source), file, options).verify(*table)
    except BinlogSyncError as error:
        return f"{name}: not compared: {error}", NOT_COMPARED
    return f"{name}: {found}", EQUAL if found.is_equal else DIFFERS

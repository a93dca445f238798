"""`binlogsync verify`: is the mirror of a table equal to it, row by row, at one place in the binlog? A line a table."""

from __future__ import annotations

import sys
from argparse import Namespace

from binlogsync.duckfile import DuckFile
from binlogsync.errors import ConfigError, ConsumeError
from binlogsync.mirror.verify import Verifier, VerifyOptions
from binlogsync.settings import Settings
from binlogsync.stream.reader import StreamReader

_PATIENCE_S = 10.0


def run(settings: Settings, arguments: Namespace) -> int:
    """Exit code 0 when all are equal, 1 when one differs. Raises BinlogSyncError."""
    source = settings.source(arguments.source)
    options = VerifyOptions(client_id=arguments.client_id, timeout_s=arguments.timeout)
    file = DuckFile(settings.warehouse_path(), error=ConsumeError)
    code = 0
    with StreamReader(settings.nats(_PATIENCE_S), source) as reader:
        verifier = Verifier(reader, settings.mysql(source), file, options)
        for name in arguments.tables:
            database, _, table = name.partition(".")
            if not database or not table:
                raise ConfigError(f'{name!r} names no table; write "database.table", for instance "shop.orders"')
            found = verifier.verify(database, table)
            sys.stdout.write(f"{name}: {found}\n")
            sys.stdout.flush()
            code = code if found.is_equal else 1
    return code

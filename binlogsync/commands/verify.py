"""`binlogsync verify`: is the mirror of a table equal to it, row by row, at one place in the binlog? A line a table."""

from __future__ import annotations

import sys
from argparse import Namespace

from binlogsync.commands.progress import PATIENCE_S
from binlogsync.commands.tables import read_table
from binlogsync.duckfile import DuckFile
from binlogsync.errors import ConsumeError
from binlogsync.mirror.verify import Verifier, VerifyOptions
from binlogsync.settings import Settings
from binlogsync.stream.reader import StreamReader


def run(settings: Settings, arguments: Namespace) -> int:
    """Exit code 0 when all are equal, 1 when one differs. Raises BinlogSyncError."""
    source = settings.source(arguments.source)
    options = VerifyOptions(client_id=arguments.client_id, timeout_s=arguments.timeout)
    file = DuckFile(settings.warehouse_path(), error=ConsumeError)
    code = 0
    with StreamReader(settings.nats(PATIENCE_S), source) as reader:
        verifier = Verifier(reader, settings.mysql(source), file, options)
        for name in arguments.tables:
            found = verifier.verify(*read_table(settings, source, name))
            sys.stdout.write(f"{name}: {found}\n")
            sys.stdout.flush()
            code = code if found.is_equal else 1
    return code

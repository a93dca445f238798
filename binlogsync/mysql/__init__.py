"""Access to a MySQL or MariaDB server: its settings, positions to start at, and the bytes of its binlog.

    findings = preflight(config)
    check(findings)
    checkpoint = resolve_start(config, parse_start("now"))  # of binlogsync.start_notation
    with BinlogDump(config, checkpoint) as dump, ReadAhead(dump) as ahead:
        chunk = ahead.next(timeout_s=1.0)

Only event headers are decoded here, to find positions.
"""

from binlogsync.mysql.config import TLS, MySQLConfig, connect, find_writable_host
from binlogsync.mysql.dump import BinlogDump
from binlogsync.mysql.information_schema import declaration_reader
from binlogsync.mysql.preflight import Finding, check, preflight
from binlogsync.mysql.readahead import DumpBlock, Pace, ReadAhead
from binlogsync.mysql.reader_settings import reader_options
from binlogsync.mysql.server import BinlogFile, ServerInfo, inspect_server
from binlogsync.mysql.server_errors import raise_server_error
from binlogsync.mysql.start import resolve_start
from binlogsync.mysql.validate import validate
from binlogsync.mysql.xa_prepare import find_xa_prepare

__all__ = [
    "TLS",
    "BinlogDump",
    "BinlogFile",
    "DumpBlock",
    "Finding",
    "MySQLConfig",
    "Pace",
    "ReadAhead",
    "ServerInfo",
    "check",
    "connect",
    "find_writable_host",
    "declaration_reader",
    "inspect_server",
    "preflight",
    "raise_server_error",
    "find_xa_prepare",
    "reader_options",
    "resolve_start",
    "validate",
]

"""Everything that is asked of a MySQL or MariaDB server: settings, a place to start, and the bytes of its binlog.

    findings = preflight(config)
    check(findings)
    checkpoint = resolve_start(config, parse_start("now"))
    with BinlogDump(config, checkpoint) as dump, ReadAhead(dump) as ahead:
        chunk = ahead.next(timeout_s=1.0)

Bytes are not looked into here, but for event headers where a position is searched.
"""

from binlogsync.mysql.config import TLS, MySQLConfig, connect, in_charge
from binlogsync.mysql.declared import declared_by
from binlogsync.mysql.decoding import reader_options
from binlogsync.mysql.dump import BinlogDump
from binlogsync.mysql.preflight import Finding, check, preflight
from binlogsync.mysql.prepared import reach_back
from binlogsync.mysql.readahead import Chunk, ReadAhead
from binlogsync.mysql.server import BinlogFile, ServerInfo, inspect_server
from binlogsync.mysql.server_errors import raise_server_error
from binlogsync.mysql.start import AtBookmark, StartAt, parse_start, resolve_start
from binlogsync.mysql.validate import validate

__all__ = [
    "TLS",
    "AtBookmark",
    "BinlogDump",
    "BinlogFile",
    "Chunk",
    "Finding",
    "MySQLConfig",
    "ReadAhead",
    "ServerInfo",
    "StartAt",
    "check",
    "connect",
    "in_charge",
    "declared_by",
    "inspect_server",
    "parse_start",
    "preflight",
    "raise_server_error",
    "reach_back",
    "reader_options",
    "resolve_start",
    "validate",
]

"""The options for decoding the binlog of a server, shared by tail and replay so that both decode equally."""

from __future__ import annotations

from collections.abc import Callable

from binlogsync.binlog.reader import ReaderOptions
from binlogsync.mysql.alteration_search import AlterationSearch
from binlogsync.mysql.config import MySQLConfig
from binlogsync.mysql.information_schema import declaration_reader
from binlogsync.mysql.server import ServerInfo
from binlogsync.server_version import ServerFlavor


def reader_options(config: MySQLConfig, info: ServerInfo, captures: Callable[[str, str], bool]) -> ReaderOptions:
    """Options that query the server on demand for properties that its binlog does not contain."""
    return ReaderOptions(
        server_uuid=info.server_uuid,
        server_id=info.server_id,
        mariadb=info.flavor == ServerFlavor.MARIADB,
        captures=captures,
        fold=info.fold,
        declared=declaration_reader(config),
        altered=AlterationSearch(config, info.server_uuid, info.fold),
    )

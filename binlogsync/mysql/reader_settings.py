"""What a reader of this server's binlog has to know: one place, so that a tail and a backfill decode alike."""

from __future__ import annotations

from collections.abc import Callable

from binlogsync.binlog.reader import ReaderOptions
from binlogsync.mysql.alteration_search import AlterationSearch
from binlogsync.mysql.config import MySQLConfig
from binlogsync.mysql.information_schema import declaration_reader
from binlogsync.mysql.server import ServerInfo


def reader_options(config: MySQLConfig, info: ServerInfo, captures: Callable[[str, str], bool]) -> ReaderOptions:
    """Options that ask the server, when a reader needs it, for what its binlog does not say."""
    return ReaderOptions(
        server_uuid=info.server_uuid,
        server_id=info.server_id,
        mariadb=info.flavor == "mariadb",
        captures=captures,
        fold=info.fold,
        declared=declaration_reader(config),
        altered=AlterationSearch(config, info.server_uuid, info.fold),
    )

"""The private names of mysql-replication and pymysql that one file relies on. A failure here means: read adapter.py."""

from __future__ import annotations

import ast
import inspect
from pathlib import Path

import pymysql
from pymysqlreplication import BinLogStreamReader

from binlogsync import mysql
from binlogsync.mysql import adapter


def test_the_connect_step_is_there_and_takes_no_arguments() -> None:
    step = getattr(BinLogStreamReader, adapter.CONNECT_STEP)
    assert list(inspect.signature(step).parameters) == ["self"]
    assert f"self.{adapter.STREAM_CONNECTION} = self.pymysql_wrapper(" in inspect.getsource(step)


def test_the_reader_takes_the_options_that_are_given() -> None:
    options = set(inspect.signature(BinLogStreamReader).parameters)
    assert options >= {
        "connection_settings",
        "server_id",
        "blocking",
        "resume_stream",
        "log_file",
        "log_pos",
        "auto_position",
        "is_mariadb",
        "report_slave",
        "slave_uuid",
        "slave_heartbeat",
        "enable_logging",
        "pymysql_wrapper",
    }


def test_the_connection_has_its_socket_and_its_hard_close() -> None:
    connection = pymysql.Connection(defer_connect=True)
    assert getattr(connection, adapter.SOCKET) is None
    assert callable(getattr(connection, adapter.FORCE_CLOSE))
    assert list(inspect.signature(getattr(connection, adapter.WRITE)).parameters) == ["data"]


def test_no_other_file_touches_private_names_of_the_libraries() -> None:
    folder = Path(inspect.getfile(mysql)).parent
    for file in folder.glob("*.py"):
        imported = {
            alias.name if isinstance(node, ast.Import) else node.module or ""
            for node in ast.walk(ast.parse(file.read_text()))
            if isinstance(node, ast.Import | ast.ImportFrom)
            for alias in node.names
        }
        if file.name != "adapter.py":
            assert not any(name.startswith("pymysqlreplication") for name in imported), file

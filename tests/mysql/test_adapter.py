"""The private names of mysql-replication and pymysql that one file relies on. A failure here means: read adapter.py."""

from __future__ import annotations

import ast
import inspect
from collections.abc import Iterator
from pathlib import Path

import pymysql
from pymysqlreplication import BinLogStreamReader

import binlogsync
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


def test_only_the_adapter_imports_mysql_replication() -> None:
    importing = {path for path, tree in _modules("pymysqlreplication") if any(_imports(tree, "pymysqlreplication"))}
    assert importing == {ADAPTER}


def test_two_files_use_private_names_of_the_libraries() -> None:
    private = {adapter.CONNECT_STEP, adapter.STREAM_CONNECTION, adapter.WRITE, adapter.FORCE_CLOSE}
    using = {
        path
        for path, tree in _modules(*private)
        for node in ast.walk(tree)
        if (isinstance(node, ast.Attribute) and node.attr in private)
        or (isinstance(node, ast.Constant) and node.value in private)
    }
    assert using == {ADAPTER, ADAPTER.with_name("guarded_connection.py")}


ADAPTER = Path(inspect.getfile(adapter))


def _modules(*words: str) -> Iterator[tuple[Path, ast.Module]]:
    """The files that contain one of the words, with their syntax trees: to parse all files takes seconds."""
    for path in Path(inspect.getfile(binlogsync)).parent.rglob("*.py"):
        text = path.read_text(encoding="utf-8")
        if any(word in text for word in words):
            yield path, ast.parse(text)


def _imports(tree: ast.Module, package: str) -> Iterator[ast.AST]:
    for node in ast.walk(tree):
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        if isinstance(node, ast.ImportFrom):
            names = [node.module or ""]
        if any(name.partition(".")[0] == package for name in names):
            yield node

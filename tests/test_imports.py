"""Allowed imports between packages, checked on the source files.

A rule is about a folder or a file, and the most specific rule for a file counts. Imports inside functions count too.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
OURS = ("binlogsync", "pipelines", "resources", "sensors")
FILES = sorted(path.relative_to(ROOT).as_posix() for folder in OURS for path in (ROOT / folder).rglob("*.py"))

CORE = (
    "binlogsync.errors",
    "binlogsync.escaping",
    "binlogsync.gtid_text",
    "binlogsync.log_identity",
    "binlogsync.position",
    "binlogsync.schema",
    "binlogsync.table_names",
    "binlogsync.change",
    "binlogsync.values",
    "binlogsync.flush",
)
KERNELS = ("numba", "numpy", "llvmlite", "zstandard")
ANYTHING = ("*",)
DAGSTER = ("dagster", "dagster_shared", "dagster_webserver")


@dataclass(frozen=True, slots=True)
class ImportRule:
    """The imports that files under `where` may have besides the standard library; `never` overrides `may`."""

    where: str
    may: tuple[str, ...]
    never: tuple[str, ...] = ()


RULES = (
    ImportRule("binlogsync/", ANYTHING, never=(*DAGSTER, "pipelines", "resources", "sensors")),
    *(
        ImportRule(f"{module.replace('.', '/')}.py", ("pyarrow", *CORE))
        for module in CORE
        if module != "binlogsync.schema"
    ),
    # Checks the types of a schema that comes as JSON from outside.
    ImportRule("binlogsync/schema.py", ("msgspec", "pyarrow", *CORE)),
    ImportRule(
        "binlogsync/binlog/",
        ("pyarrow", "binlogsync.binlog", *CORE, *KERNELS),
        never=("socket", "ssl", "selectors", "asyncio", "http", "urllib", "subprocess"),
    ),
    # A SQL parser, for the statements that a binlog holds as text.
    ImportRule("binlogsync/binlog/ddl.py", ("sqlglot", "binlogsync.binlog.sql", *CORE)),
    ImportRule("resources/", ("binlogsync", "resources", *DAGSTER, "pydantic")),
    ImportRule("sensors/", ("binlogsync", "resources", "sensors", *DAGSTER)),
    ImportRule("pipelines/", ANYTHING),
)
# What a new version of numba or llvmlite does not change; all else of them stays in one module.
PUBLIC_NUMBA = ("numba.config", "numba.njit", "numba.types", "numba.extending", "llvmlite.binding", "llvmlite.ir")
PRIVATE_NUMBA_USER = "binlogsync/binlog/fast_compiling.py"
# A file uses one system only, so knowledge about a client library is in few files.
CLIENTS = {"nats": "NATS", "duckdb": "DuckDB", "redis": "Redis", "pymysql": "MySQL", "pymysqlreplication": "MySQL"}
# Only files that use NATS have event loops and tasks, and offer plain functions; one more awaits users' coroutines.
ASYNC = ("asyncio",)
AWAITS_FOR_USERS = ("binlogsync/consume/event_loop.py",)
NO_POSTPONED_ANNOTATIONS = ("pipelines/", "resources/", "sensors/")


@cache
def nodes(path: Path) -> tuple[ast.AST, ...]:
    """The syntax tree of a file, flat; several tests look at each file."""
    return tuple(ast.walk(ast.parse(path.read_text(), str(path))))


def modules(file: str, root: Path = ROOT) -> Iterator[str]:
    """Dotted names that a file imports; `from a import b` gives `a.b`, since b may be a module."""
    for node in nodes(root / file):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}:{node.lineno} imports relatively; write the whole name"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def is_below(module: str, roots: tuple[str, ...]) -> bool:
    return any(module == root or module.startswith(f"{root}.") for root in roots)


def rule_for(file: str) -> ImportRule:
    return max((rule for rule in RULES if file.startswith(rule.where)), key=lambda rule: len(rule.where))


def broken_imports(file: str, root: Path = ROOT) -> list[str]:
    rule = rule_for(file)
    broken = []
    for module in modules(file, root):
        standard = module.partition(".")[0] in sys.stdlib_module_names
        allowed = standard or rule.may == ANYTHING or is_below(module, rule.may)
        if not allowed or is_below(module, rule.never):
            broken.append(module)
    return broken


def test_all_packages_are_found() -> None:
    assert {file.partition("/")[0] for file in FILES} == set(OURS)


@pytest.mark.parametrize("file", FILES)
def test_imports_are_allowed(file: str) -> None:
    rule = rule_for(file)
    assert broken_imports(file) == [], f"{rule.where} may import {rule.may}, never {rule.never}"


@pytest.mark.parametrize("file", [file for file in FILES if file.startswith("binlogsync/")])
def test_one_client_library_per_file(file: str) -> None:
    used = {CLIENTS[root] for root in (module.partition(".")[0] for module in modules(file)) if root in CLIENTS}
    assert len(used) <= 1, f"{file} uses {sorted(used)}; a file may use one system only"


@pytest.mark.parametrize("file", [file for file in FILES if file != PRIVATE_NUMBA_USER])
def test_private_apis_of_numba_stay_in_one_module(file: str) -> None:
    used = [module for module in modules(file) if is_below(module, ("numba", "llvmlite"))]
    assert [module for module in used if not is_below(module, PUBLIC_NUMBA)] == []


def opens_mysql(file: str) -> bool:
    """True when a file opens, or subclasses, a connection of pymysql."""
    names = {"connect", "Connect", "Connection"}
    if any(module in {f"pymysql.{name}" for name in names} | {"pymysql.connections"} for module in modules(file)):
        return True
    used = [node.func for node in nodes(ROOT / file) if isinstance(node, ast.Call)]
    used += [base for node in nodes(ROOT / file) if isinstance(node, ast.ClassDef) for base in node.bases]
    return any(
        isinstance(each, ast.Attribute)
        and each.attr in names
        and isinstance(each.value, ast.Name)
        and each.value.id == "pymysql"
        for each in used
    )


def test_one_module_opens_all_connections_to_mysql() -> None:
    """It sets the session variables and guards the login; private servers are excepted, which tests use as root."""
    assert {file for file in FILES if opens_mysql(file)} == {
        "binlogsync/mysql/guarded_connection.py",
        "binlogsync/embedded/database.py",
    }
    users = {
        file
        for file in FILES
        if any(is_below(each, ("binlogsync.mysql.guarded_connection",)) for each in modules(file))
    }
    assert users == {"binlogsync/mysql/config.py"}


@pytest.mark.parametrize("file", [file for file in FILES if file.startswith("binlogsync/")])
def test_only_files_that_use_nats_import_asyncio(file: str) -> None:
    found = list(modules(file))
    if file not in AWAITS_FOR_USERS and any(is_below(module, ASYNC) for module in found):
        assert any(is_below(module, ("nats",)) for module in found), f"{file} uses asyncio and does not speak NATS"


@pytest.mark.parametrize("file", [file for file in FILES if file.startswith(NO_POSTPONED_ANNOTATIONS)])
def test_dagster_can_read_annotations(file: str) -> None:
    """Dagster reads annotations when a decorated function is defined; it cannot use strings."""
    assert "__future__.annotations" not in modules(file)


@pytest.mark.parametrize("file", [file for file in FILES if file.startswith(("binlogsync/", "resources/", "sensors/"))])
def test_no_package_imports_pipelines(file: str) -> None:
    assert not any(is_below(module, ("pipelines",)) for module in modules(file))


@pytest.mark.parametrize(
    ("file", "module", "allowed"),
    [
        ("binlogsync/change.py", "pyarrow.compute", True),
        ("binlogsync/change.py", "numpy", False),
        ("binlogsync/binlog/rows.py", "numba.njit", True),
        ("binlogsync/binlog/rows.py", "binlogsync.schema.Column", True),
        ("binlogsync/binlog/rows.py", "binlogsync.tail.run", False),
        ("binlogsync/binlog/rows.py", "socket", False),
        ("binlogsync/tail/run.py", "numpy", True),
        ("binlogsync/tail/run.py", "dagster", False),
        ("resources/redis.py", "pipelines.tail", False),
        ("sensors/tail.py", "pipelines.tail", False),
        ("sensors/tail.py", "resources.redis", True),
        ("pipelines/tail.py", "duckdb", True),
    ],
)
def test_the_rules_allow_and_refuse(file: str, module: str, allowed: bool, tmp_path: Path) -> None:
    path = tmp_path / file
    path.parent.mkdir(parents=True)
    path.write_text(f"import {module}\n")
    assert (broken_imports(file, tmp_path) == []) is allowed

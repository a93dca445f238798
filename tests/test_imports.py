"""Rules about imports that the contracts in pyproject.toml (`lint-imports`) cannot express: they are about files.

Imports inside functions count too.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
OURS = ("binlogsync", "dagster_binlogsync", "pipelines", "resources", "sensors")
FILES = sorted(path.relative_to(ROOT).as_posix() for folder in OURS for path in (ROOT / folder).rglob("*.py"))

# What a new version of numba or llvmlite does not change; all else of them stays in one module.
PUBLIC_NUMBA = ("numba.config", "numba.njit", "numba.types", "numba.extending", "llvmlite.binding", "llvmlite.ir")
PRIVATE_NUMBA_USER = "binlogsync/binlog/fast_compiling.py"
NO_POSTPONED_ANNOTATIONS = ("dagster_binlogsync/", "pipelines/", "resources/", "sensors/")


@cache
def nodes(path: Path) -> tuple[ast.AST, ...]:
    """The syntax tree of a file, flat; several tests look at each file."""
    return tuple(ast.walk(ast.parse(path.read_text(), str(path))))


def files_with(*words: str) -> list[str]:
    """Files that contain one of the words: to parse all files takes seconds."""
    texts = {file: (ROOT / file).read_text() for file in FILES}
    return [file for file, text in texts.items() if any(word in text for word in words)]


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


def test_all_packages_are_found() -> None:
    assert {file.partition("/")[0] for file in FILES} == set(OURS)


def test_private_apis_of_numba_stay_in_one_module() -> None:
    users = {
        file
        for file in files_with("numba", "llvmlite")
        for module in modules(file)
        if is_below(module, ("numba", "llvmlite")) and not is_below(module, PUBLIC_NUMBA)
    }
    assert users == {PRIVATE_NUMBA_USER}


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
    assert {file for file in files_with("pymysql") if opens_mysql(file)} == {
        "binlogsync/mysql/guarded_connection.py",
        "binlogsync/mysql/application_login.py",
    }
    users = {
        file
        for file in files_with("GuardedConnection")
        for node in nodes(ROOT / file)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "GuardedConnection"
    }
    assert users == {"binlogsync/mysql/config.py"}


def test_dagster_can_read_annotations() -> None:
    """Dagster reads annotations when a decorated function is defined; it cannot use strings."""
    files = [file for file in files_with("__future__") if file.startswith(NO_POSTPONED_ANNOTATIONS)]
    assert [file for file in files if "__future__.annotations" in modules(file)] == []

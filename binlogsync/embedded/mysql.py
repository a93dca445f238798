"""A private MySQL: the one on PATH when it is 8.0.30 or newer, else the current one from Debian's archive.

Binlog on, row metadata FULL, GTIDs on (options can change each). A first start copies a data folder that was
initialised once; later starts reuse theirs.
"""

from __future__ import annotations

import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType

from binlogsync.embedded import cache, debian, installed
from binlogsync.embedded.database import DatabaseServer, Flavour, Place, command_line, prepare, run_as
from binlogsync.embedded.installed import Program
from binlogsync.embedded.server import running
from binlogsync.errors import EmbeddedServerError

PACKAGES = debian.PackageSet(
    "mysql", ("mysql-server-core", "mysql-client-core"), "install MySQL 8.0.30 or newer so that `mysqld` is on PATH"
)
_AT_LEAST = (8, 0, 30)
_GRANTS = "SELECT, RELOAD, LOCK TABLES, SHOW VIEW, REPLICATION SLAVE, REPLICATION CLIENT"
_FIXED_AT_FIRST = frozenset({"lower_case_table_names"})
_DEFAULTS = {
    "gtid_mode": "ON",
    "enforce_gtid_consistency": "ON",
    "innodb_redo_log_capacity": "64M",
    "mysqlx": "OFF",
}


class MySQLServer(DatabaseServer):
    """A running private MySQL."""


@contextmanager
def mysql(
    data_dir: Path | None = None, port: int | None = None, options: Mapping[str, str] | None = None
) -> Iterator[MySQLServer]:
    """Runs MySQL while the block runs.

    Args:
        data_dir: its files, kept afterwards and used again; None makes a folder that is removed afterwards.
        port: TCP port of 127.0.0.1; None takes a free one.
        options: server options by name, "gtid_mode": "OFF"; an empty value gives a bare option.

    Raises EmbeddedServerError when the server cannot be had or does not start.
    """
    found = flavour({name: value for name, value in (options or {}).items() if name in _FIXED_AT_FIRST})
    place = Place(data_dir, port)
    with running(lambda run_dir: prepare(found, MySQLServer, run_dir, place, options or {})) as server:
        yield server


def flavour(fixed: Mapping[str, str] = MappingProxyType({})) -> Flavour:
    """The server program and its initialised data folder; downloads and initialises what is missing.

    `fixed` are options that a data folder is initialised with and has for good.
    """
    found = find()
    command = (*found.command, *_paths(found), *command_line(run_as()))
    name = "-".join([f"mysql-data-{found.version}", *(f"{option}-{value}" for option, value in sorted(fixed.items()))])
    template = cache.entry(name, lambda folder: _initialise((*command, *command_line(fixed)), folder))
    return Flavour(
        name="MySQL",
        version=found.version,
        command=command,
        defaults=_DEFAULTS,
        template=template / "data",
        fresh=("auto.cnf",),  # it holds the server's UUID
        cdc_grants=_GRANTS,
    )


def find() -> Program:
    """The mysqld to run."""
    if here := installed.program("mysqld", at_least=_AT_LEAST, never_says="MariaDB"):
        return here
    command = debian.unpacked(PACKAGES).command("usr/sbin/mysqld", libraries=["usr/lib/mysql/private"])
    version = installed.parse_version(installed.version_text(command).partition("Ver")[2])
    if version is None:
        raise EmbeddedServerError(f"the downloaded MySQL does not run: {' '.join(command)} --version prints no version")
    return Program(command, version)


def _paths(found: Program) -> list[str]:
    """The unpacked server looks for its messages in /usr unless told where they are."""
    options = ["--no-defaults", "--secure-file-priv="]
    if len(found.command) > 1:
        usr = Path(found.command[-1]).parent.parent
        options += [f"--basedir={usr}", f"--lc-messages-dir={usr / 'share' / 'mysql'}"]
    return options


def _initialise(command: tuple[str, ...], folder: Path) -> None:
    """Fills `folder`/data; the accounts get their passwords when a server starts on a copy."""
    data = folder / "data"
    arguments = ["--initialize-insecure", f"--datadir={data}", "--innodb-redo-log-capacity=8M", "--mysqlx=OFF"]
    done = subprocess.run([*command, *arguments], capture_output=True, text=True, check=False)
    if done.returncode:
        raise EmbeddedServerError(f"MySQL cannot initialise a data folder in {folder.parent}:\n{done.stderr[-2000:]}")

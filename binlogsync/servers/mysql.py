"""A private MySQL: the program on PATH if it is 8.0.30 or newer, else the current one from Debian's archive.

Binlog on, row metadata FULL, GTIDs on (options can change each). The first start of a server copies a data folder that
was initialised once; later starts reuse the copy.
"""

from __future__ import annotations

import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType

from binlogsync.errors import EmbeddedServerError
from binlogsync.servers import cache, debian, installed_programs
from binlogsync.servers.database import (
    DatabaseServer,
    Installation,
    ServerLocation,
    command_line,
    prepare_server,
    root_options,
)
from binlogsync.servers.installed_programs import ServerProgram
from binlogsync.servers.server import run_server

PACKAGES = debian.PackageSet(
    "mysql", ("mysql-server-core", "mysql-client-core"), "install MySQL 8.0.30 or newer so that `mysqld` is on PATH"
)
_AT_LEAST = (8, 0, 30)
_GRANTS = "SELECT, RELOAD, LOCK TABLES, SHOW VIEW, REPLICATION SLAVE, REPLICATION CLIENT"
_INITIALISATION_OPTIONS = frozenset({"lower_case_table_names"})
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
        data_dir: folder of its data, which is not removed; None for a temporary folder.
        port: TCP port on 127.0.0.1; None for a free one.
        options: server options by name, "gtid_mode": "OFF"; an empty value for an option without one.

    Raises EmbeddedServerError when the server is not available or does not start.
    """
    found = find_installation(
        {name: value for name, value in (options or {}).items() if name in _INITIALISATION_OPTIONS}
    )
    location = ServerLocation(data_dir, port)
    with run_server(
        lambda run_dir: prepare_server(found, MySQLServer, run_dir, location, options or {}),
        keeps_data=data_dir is not None,
    ) as server:
        yield server


def find_installation(fixed: Mapping[str, str] = MappingProxyType({})) -> Installation:
    """The server program and its initialised data folder; downloads the one and initialises the other if missing.

    `fixed` are options that a data folder is initialised with and cannot change later.
    """
    found = find_server()
    command = (*found.command, *_paths(found), *command_line(root_options()))
    name = "-".join([f"mysql-data-{found.version}", *(f"{option}-{value}" for option, value in sorted(fixed.items()))])
    template = cache.get_entry(name, lambda folder: _initialise((*command, *command_line(fixed)), folder))
    return Installation(
        name="MySQL",
        version=found.version,
        command=command,
        defaults=_DEFAULTS,
        template=template / "data",
        not_copied=("auto.cnf",),  # contains the server's UUID
        cdc_grants=_GRANTS,
    )


def find_server() -> ServerProgram:
    """The mysqld to run."""
    if here := installed_programs.find_program("mysqld", at_least=_AT_LEAST, excludes="MariaDB"):
        return here
    command = debian.unpack_packages(PACKAGES).command("usr/sbin/mysqld", libraries=["usr/lib/mysql/private"])
    version = installed_programs.parse_version(installed_programs.version_text(command).partition("Ver")[2])
    if version is None:
        raise EmbeddedServerError(f"the downloaded MySQL does not run: {' '.join(command)} --version prints no version")
    return ServerProgram(command, version)


def _paths(found: ServerProgram) -> list[str]:
    """Paths of an unpacked server, which otherwise searches for its messages in /usr."""
    options = ["--no-defaults", "--secure-file-priv="]
    if len(found.command) > 1:
        usr = Path(found.command[-1]).parent.parent
        options += [f"--basedir={usr}", f"--lc-messages-dir={usr / 'share' / 'mysql'}"]
    return options


def _initialise(command: tuple[str, ...], folder: Path) -> None:
    """Initialise `folder`/data; accounts get their passwords when a server starts on a copy."""
    data = folder / "data"
    arguments = ["--initialize-insecure", f"--datadir={data}", "--innodb-redo-log-capacity=8M", "--mysqlx=OFF"]
    done = subprocess.run([*command, *arguments], capture_output=True, text=True, check=False)
    if done.returncode:
        raise EmbeddedServerError(f"MySQL cannot initialise a data folder in {folder.parent}:\n{done.stderr[-2000:]}")

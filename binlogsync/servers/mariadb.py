"""A private MariaDB: the program on PATH if it is 10.11 or newer, else the current one from Debian's archive; or 10.11.

Binlog on, ROW format, row metadata FULL (options can change each). The SQL files of the package create the system
tables once; the first start of a server copies that data folder, and later starts reuse the copy.
"""

from __future__ import annotations

import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

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
    "mariadb", ("mariadb-server-core",), "install MariaDB 10.11 or newer so that `mariadbd` is on PATH"
)
PACKAGES_10_11 = debian.PackageSet(
    "mariadb-10.11",
    ("mariadb-server-core",),
    "continue without it: the tests on MariaDB 10.11 are skipped",
    suite="bookworm",
)
_AT_LEAST = (10, 11)
Release = Literal["10.11"]
_GRANTS = "SELECT, RELOAD, LOCK TABLES, SHOW VIEW, REPLICATION SLAVE, BINLOG MONITOR"
_DEFAULTS = {
    "binlog_format": "ROW",
    "gtid_strict_mode": "ON",
    "innodb_log_file_size": "48M",
}
_SYSTEM_TABLES = (
    "mariadb_system_tables.sql",
    "mariadb_performance_tables.sql",
    "mariadb_system_tables_data.sql",
    "maria_add_gis_sp_bootstrap.sql",
    "mariadb_sys_schema.sql",
)
_SYSTEM_TABLES_10 = tuple(name.replace("mariadb_", "mysql_") for name in _SYSTEM_TABLES)


class MariaDBServer(DatabaseServer):
    """A running private MariaDB."""


@contextmanager
def mariadb(
    data_dir: Path | None = None,
    port: int | None = None,
    options: Mapping[str, str] | None = None,
    release: Release | None = None,
) -> Iterator[MariaDBServer]:
    """Runs MariaDB while the block runs.

    Args:
        data_dir: folder of its data, which is not removed; None for a temporary folder.
        port: TCP port on 127.0.0.1; None for a free one.
        options: server options by name, "binlog_row_image": "MINIMAL"; an empty value for an option without one.
        release: "10.11" for the one of Debian 12, regardless of PATH; None for the current one.

    Raises EmbeddedServerError when the server is not available or does not start.
    """
    found = find_installation(release)
    location = ServerLocation(data_dir, port)
    with run_server(
        lambda run_dir: prepare_server(found, MariaDBServer, run_dir, location, options or {}),
        keeps_data=data_dir is not None,
    ) as server:
        yield server


def find_installation(release: Release | None = None) -> Installation:
    """The server program and its initialised data folder; downloads the one and initialises the other if missing."""
    found = find_server(release)
    usr = Path(found.command[-1]).resolve().parent.parent
    command = (*found.command, "--no-defaults", *_paths(found, usr), *command_line(root_options()))
    template = cache.get_entry(f"mariadb-data-{found.version}", lambda folder: _initialise(command, usr, folder))
    return Installation(
        name="MariaDB",
        version=found.version,
        command=command,
        defaults=_DEFAULTS,
        template=template / "data",
        not_copied=(),
        cdc_grants=_GRANTS,
    )


def find_server(release: Release | None = None) -> ServerProgram:
    """The mariadbd to run."""
    packages = PACKAGES if release is None else PACKAGES_10_11
    if release is None and (
        here := installed_programs.find_program("mariadbd", at_least=_AT_LEAST, contains="MariaDB")
    ):
        return here
    command = debian.unpack_packages(packages).command("usr/sbin/mariadbd")
    version = installed_programs.parse_version(installed_programs.version_text(command).partition("Ver")[2])
    if version is None:
        raise EmbeddedServerError(
            f"the downloaded MariaDB does not run: {' '.join(command)} --version prints no version"
        )
    return ServerProgram(command, version)


def _paths(found: ServerProgram, usr: Path) -> list[str]:
    """Paths of an unpacked server, which otherwise searches for messages, charsets and plug-ins in /usr."""
    if len(found.command) == 1:
        return []
    share = _share(usr)
    return [
        f"--basedir={usr}",
        f"--lc-messages-dir={share}",
        f"--character-sets-dir={share / 'charsets'}",
        f"--plugin-dir={usr / 'lib' / 'mysql' / 'plugin'}",
    ]


def _share(usr: Path) -> Path:
    """The folder of messages, character sets and the SQL of the system tables."""
    for folder in (usr / "share" / "mariadb", usr / "share" / "mysql"):
        if (folder / "maria_add_gis_sp_bootstrap.sql").exists():
            return folder
    raise EmbeddedServerError(f"no SQL files of MariaDB's system tables in {usr}/share; install mariadb-server-core")


def _initialise(command: tuple[str, ...], usr: Path, folder: Path) -> None:
    """Initialise `folder`/data; accounts get their passwords when a server starts on a copy."""
    data = folder / "data"
    data.mkdir()
    share = _share(usr)
    statements = ["CREATE DATABASE mysql;", "USE mysql;", "SET @auth_root_socket=NULL;"]
    for name in _SYSTEM_TABLES if (share / _SYSTEM_TABLES[0]).exists() else _SYSTEM_TABLES_10:
        # The data folder is copied, and the server resolves no names: it needs no account for this host's name.
        lines = (share / name).read_text().splitlines()
        statements += [line for line in lines if "@current_hostname" not in line]
    done = subprocess.run(
        [*command, "--bootstrap", f"--datadir={data}", "--innodb-log-file-size=8M", "--log-warnings=0"],
        input="\n".join(statements) + "\n",
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode or "ERROR" in done.stderr:
        raise EmbeddedServerError(f"MariaDB cannot initialise a data folder in {folder.parent}:\n{done.stderr[-2000:]}")

"""A private MariaDB: the one on PATH when it is 10.11 or newer, else the current one from Debian's archive; or 10.11.

Binlog on, ROW format, row metadata FULL (options can change each). Its system tables come from the SQL files of the
package, run once; a first start copies that data folder, later starts reuse theirs.
"""

from __future__ import annotations

import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

from binlogsync.embedded import cache, debian, installed
from binlogsync.embedded.database import DatabaseServer, Flavour, Place, command_line, prepare, run_as
from binlogsync.embedded.installed import Program
from binlogsync.embedded.server import running
from binlogsync.errors import EmbeddedServerError

PACKAGES = debian.PackageSet(
    "mariadb", ("mariadb-server-core",), "install MariaDB 10.11 or newer so that `mariadbd` is on PATH"
)
PACKAGES_10_11 = debian.PackageSet(
    "mariadb-10.11", ("mariadb-server-core",), "do without it: the tests on MariaDB 10.11 are skipped", suite="bookworm"
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
        data_dir: its files, kept afterwards and used again; None makes a folder that is removed afterwards.
        port: TCP port of 127.0.0.1; None takes a free one.
        options: server options by name, "binlog_row_image": "MINIMAL"; an empty value gives a bare option.
        release: "10.11" for that of Debian 12, whatever is on PATH; None for the current one.

    Raises EmbeddedServerError when the server cannot be had or does not start.
    """
    found = flavour(release)
    place = Place(data_dir, port)
    with running(lambda run_dir: prepare(found, MariaDBServer, run_dir, place, options or {})) as server:
        yield server


def flavour(release: Release | None = None) -> Flavour:
    """The server program and its initialised data folder; downloads and initialises what is missing."""
    found = find(release)
    usr = Path(found.command[-1]).resolve().parent.parent
    command = (*found.command, "--no-defaults", *_paths(found, usr), *command_line(run_as()))
    template = cache.entry(f"mariadb-data-{found.version}", lambda folder: _initialise(command, usr, folder))
    return Flavour(
        name="MariaDB",
        version=found.version,
        command=command,
        defaults=_DEFAULTS,
        template=template / "data",
        fresh=(),
        cdc_grants=_GRANTS,
    )


def find(release: Release | None = None) -> Program:
    """The mariadbd to run."""
    packages = PACKAGES if release is None else PACKAGES_10_11
    if release is None and (here := installed.program("mariadbd", at_least=_AT_LEAST, says="MariaDB")):
        return here
    command = debian.unpacked(packages).command("usr/sbin/mariadbd")
    version = installed.parse_version(installed.version_text(command).partition("Ver")[2])
    if version is None:
        raise EmbeddedServerError(
            f"the downloaded MariaDB does not run: {' '.join(command)} --version prints no version"
        )
    return Program(command, version)


def _paths(found: Program, usr: Path) -> list[str]:
    """The unpacked server looks for its messages, charsets and plug-ins in /usr unless told where they are."""
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
    """Where messages, character sets and the SQL of the system tables are."""
    for folder in (usr / "share" / "mariadb", usr / "share" / "mysql"):
        if (folder / "maria_add_gis_sp_bootstrap.sql").exists():
            return folder
    raise EmbeddedServerError(f"no SQL files of MariaDB's system tables in {usr}/share; install mariadb-server-core")


def _initialise(command: tuple[str, ...], usr: Path, folder: Path) -> None:
    """Fills `folder`/data; the accounts get their passwords when a server starts on a copy."""
    data = folder / "data"
    data.mkdir()
    share = _share(usr)
    statements = ["CREATE DATABASE mysql;", "USE mysql;", "SET @auth_root_socket=NULL;"]
    for name in _SYSTEM_TABLES if (share / _SYSTEM_TABLES[0]).exists() else _SYSTEM_TABLES_10:
        # The host's own name is of no use in a data folder that is copied; the server resolves no names.
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

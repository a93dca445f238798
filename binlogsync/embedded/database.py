"""What the private MySQL and MariaDB servers have in common: folders, accounts, options, start and stop.

A server has two accounts with random passwords, kept in its data folder (mode 0600) so that they survive: `root`, and
`binlogsync` with what change data capture needs and no more. They are set at every start by an init file that does
not write to the binlog. The server listens on 127.0.0.1 and on a socket in a short folder (socket paths end at 107
characters).

Nothing is synced to disk at commit: what was committed survives SIGKILL of the server, not a power cut of the machine.
"""

from __future__ import annotations

import json
import os
import secrets
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import pymysql

from binlogsync.embedded.installed import folder_of
from binlogsync.embedded.process import HOST, Launch, ServerProcess, free_port
from binlogsync.embedded.server import PrivateServer
from binlogsync.errors import EmbeddedServerError
from binlogsync.private_files import FOLDER_MODE

CDC_USER = "binlogsync"
_CREDENTIALS = "binlogsync-credentials.json"
_PROBE_TIMEOUT_S = 5


@dataclass(frozen=True, slots=True)
class Flavour:
    """One kind of database server, ready to be run.

    Attributes:
        name: "MySQL" or "MariaDB", for messages.
        version: as text, "9.7.4".
        command: the command line without options about data, network or accounts.
        defaults: server options that a caller may override.
        template: an initialised data folder that is copied for a new server.
        fresh: files of the template that each server must make for itself.
        cdc_grants: privileges of the `binlogsync` account on all tables.
    """

    name: str
    version: str
    command: tuple[str, ...]
    defaults: Mapping[str, str]
    template: Path
    fresh: tuple[str, ...]
    cdc_grants: str


@dataclass(frozen=True, slots=True)
class Place:
    """Where a server's files and its port are; None makes a folder in the run folder, or takes a free port."""

    data_dir: Path | None
    port: int | None


@dataclass(kw_only=True)
class DatabaseServer(PrivateServer):
    """A running private server.

    Attributes:
        socket: where it listens besides host and port.
        user, password: the root account.
        cdc_user, cdc_password: the account with the rights that change data capture needs.
        data_dir: its files.
    """

    socket: Path
    user: str
    password: str = field(repr=False)
    cdc_user: str
    cdc_password: str = field(repr=False)
    data_dir: Path

    def connect(self, **kw: Any) -> pymysql.Connection[Any]:
        """A connection as root over TCP, autocommit, utf8mb4; `kw` goes to pymysql.connect and wins."""
        return pymysql.connect(
            **{
                "host": self.host,
                "port": self.port,
                "user": self.user,
                "password": self.password,
                "charset": "utf8mb4",
                "autocommit": True,
                **kw,
            }
        )


Server = TypeVar("Server", bound=DatabaseServer)


def prepare(flavour: Flavour, kind: type[Server], run_dir: Path, place: Place, options: Mapping[str, str]) -> Server:
    """A server of this flavour, not started yet; its data folder is made when it is missing or empty."""
    data = folder_of(place.data_dir if place.data_dir is not None else run_dir / "data")
    if not (data / "mysql").is_dir():
        _copy_template(flavour, data)
    port = place.port or free_port()
    passwords = _passwords(data)
    socket = run_dir / "sql.sock"
    init_file = run_dir / "accounts.sql"
    init_file.touch(mode=0o600)
    init_file.write_text("\n".join(_account_statements(passwords, flavour.cdc_grants)) + "\n")
    fixed = {
        "datadir": str(data),
        "socket": str(socket),
        "pid_file": str(run_dir / "sql.pid"),
        "port": str(port),
        "bind_address": HOST,
        "init_file": str(init_file),
        "skip_name_resolve": "ON",
        "tmpdir": str(run_dir),
    }
    chosen = {"server_id": str(port), **_SHARED_DEFAULTS, **flavour.defaults, **_normalised(options), **fixed}

    def answers() -> bool:
        return all(_can_log_in(port, user, password) for user, password in passwords.items())

    launch = Launch(flavour.name, (*flavour.command, *command_line(chosen)), data / "server.log", answers)
    return kind(
        host=HOST,
        port=port,
        socket=socket,
        user="root",
        password=passwords["root"],
        cdc_user=CDC_USER,
        cdc_password=passwords[CDC_USER],
        data_dir=data,
        version=flavour.version,
        process=ServerProcess(launch),
    )


def _copy_template(flavour: Flavour, data: Path) -> None:
    """Copies beside `data` and renames, so that a copy that was killed is not taken for a data folder."""
    if any(data.iterdir()):
        raise EmbeddedServerError(f"{data} is neither empty nor a data folder of {flavour.name}; choose another folder")
    copying = data.with_name(f"{data.name}.copying")
    shutil.rmtree(copying, ignore_errors=True)
    shutil.copytree(flavour.template, copying, ignore=shutil.ignore_patterns(*flavour.fresh))
    copying.chmod(FOLDER_MODE)
    copying.rename(data)


# Small, because several servers run beside each other on one machine; no fsync, because their data are not precious.
_SHARED_DEFAULTS = {
    "log_bin": "binlog",
    "binlog_row_metadata": "FULL",
    "binlog_row_image": "FULL",
    "sync_binlog": "0",
    "innodb_flush_log_at_trx_commit": "2",
    "innodb_doublewrite": "OFF",
    "innodb_buffer_pool_size": "64M",
    "innodb_buffer_pool_dump_at_shutdown": "OFF",
    "innodb_buffer_pool_load_at_startup": "OFF",
    "performance_schema": "OFF",
    "max_connections": "200",
    "max_allowed_packet": "1G",
    "character_set_server": "utf8mb4",
    "local_infile": "ON",
}


def command_line(options: Mapping[str, str]) -> list[str]:
    """Options as arguments; an empty value gives the bare option."""
    return [f"--{name.replace('_', '-')}" + (f"={value}" if value else "") for name, value in options.items()]


def _normalised(options: Mapping[str, str]) -> dict[str, str]:
    return {name.lstrip("-").replace("-", "_"): value for name, value in options.items()}


def _passwords(data: Path) -> dict[str, str]:
    """Passwords by account: those of the data folder, else new ones that are written there."""
    file = data / _CREDENTIALS
    if not file.exists():
        new = {user: secrets.token_urlsafe(18) for user in ("root", CDC_USER)}
        building = data / f"{_CREDENTIALS}.new"
        building.touch(mode=0o600)
        building.write_text(json.dumps(new))
        building.rename(file)
    loaded: dict[str, str] = json.loads(file.read_text())
    return loaded


def _account_statements(passwords: Mapping[str, str], cdc_grants: str) -> Sequence[str]:
    """One statement a line, as an init file wants them; safe to run again."""
    root, cdc = passwords["root"], passwords[CDC_USER]
    return [
        "SET SESSION sql_log_bin = 0;",
        f"ALTER USER 'root'@'localhost' IDENTIFIED BY '{root}';",
        "DROP USER IF EXISTS 'root'@'::1';",
        f"CREATE USER IF NOT EXISTS 'root'@'{HOST}';",
        f"ALTER USER 'root'@'{HOST}' IDENTIFIED BY '{root}';",
        f"GRANT ALL PRIVILEGES ON *.* TO 'root'@'{HOST}' WITH GRANT OPTION;",
        f"CREATE USER IF NOT EXISTS '{CDC_USER}'@'%' IDENTIFIED BY '{cdc}';",
        f"GRANT {cdc_grants} ON *.* TO '{CDC_USER}'@'%';",
    ]


def _can_log_in(port: int, user: str, password: str) -> bool:
    """One login of each account at the start also fills MySQL's password cache, so that logins without TLS work."""
    try:
        pymysql.connect(host=HOST, port=port, user=user, password=password, connect_timeout=_PROBE_TIMEOUT_S).close()
    except pymysql.MySQLError:
        return False
    return True


def run_as() -> dict[str, str]:
    """The option that lets root run a database server, which refuses it otherwise."""
    return {"user": "root"} if os.geteuid() == 0 else {}

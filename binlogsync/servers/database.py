"""The common code of the private MySQL and MariaDB servers: folders, accounts, options, start and stop.

A server has two accounts with random passwords, stored in its data folder (mode 0600) so that they persist: `root`, and
`binlogsync` with the privileges for change data capture and no others. An init file sets them at every start and does
not write to the binlog. The server listens on 127.0.0.1 and on a socket in a short folder (socket paths end at 107
characters).

Nothing is synced to disk at commit: committed transactions survive SIGKILL of the server, not a power failure of the
machine.
"""

from __future__ import annotations

import json
import os
import secrets
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from binlogsync.errors import EmbeddedServerError
from binlogsync.private_files import FOLDER_MODE
from binlogsync.servers.installed_programs import make_folder_path
from binlogsync.servers.process import HOST, LaunchOptions, ServerProcess, free_port
from binlogsync.servers.server import PrivateServer

if TYPE_CHECKING:
    from binlogsync.mysql.session import Connection

CDC_USER = "binlogsync"
_CREDENTIALS = "binlogsync-credentials.json"
_PROBE_TIMEOUT_S = 5


@dataclass(frozen=True, slots=True)
class Installation:
    """An installed database server, and how to run it.

    Attributes:
        name: "MySQL" or "MariaDB", for messages.
        version: as text, "9.7.4".
        command: the command line without options about data, network or accounts.
        defaults: server options that a caller may override.
        template: an initialised data folder that is copied for a new server.
        not_copied: files of the template that each server must create itself.
        cdc_grants: privileges of the `binlogsync` account on all tables.
    """

    name: str
    version: str
    command: tuple[str, ...]
    defaults: Mapping[str, str]
    template: Path
    not_copied: tuple[str, ...]
    cdc_grants: str


@dataclass(frozen=True, slots=True)
class ServerLocation:
    """Data folder and port of a server; None for a folder in the run folder, and for a free port."""

    data_dir: Path | None
    port: int | None


@dataclass(kw_only=True)
class DatabaseServer(PrivateServer):
    """A running private server.

    Attributes:
        socket: the Unix socket that it listens on besides host and port.
        user, password: the root account.
        cdc_user, cdc_password: the account with the privileges for change data capture.
        data_dir: its files.
    """

    socket: Path
    user: str
    password: str = field(repr=False)
    cdc_user: str
    cdc_password: str = field(repr=False)
    data_dir: Path

    def connect(self, **kw: Any) -> Connection:
        """A connection as root over TCP, autocommit, utf8mb4; `kw` overrides arguments of pymysql.connect."""
        from binlogsync.mysql.application_login import connect

        return connect(**{"host": self.host, "port": self.port, "user": self.user, "password": self.password, **kw})


Server = TypeVar("Server", bound=DatabaseServer)


def prepare_server(
    installation: Installation,
    kind: type[Server],
    run_dir: Path,
    location: ServerLocation,
    options: Mapping[str, str],
) -> Server:
    """A server of this installation, not started yet; its data folder is created if missing or empty."""
    data = make_folder_path(location.data_dir if location.data_dir is not None else run_dir / "data")
    if not (data / "mysql").is_dir():
        _copy_template(installation, data)
    port = location.port or free_port()
    passwords = _load_passwords(data)
    socket = run_dir / "sql.sock"
    init_file = run_dir / "accounts.sql"
    init_file.touch(mode=0o600)
    init_file.write_text("\n".join(_account_statements(passwords, installation.cdc_grants)) + "\n")
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
    chosen = {"server_id": str(port), **_SHARED_DEFAULTS, **installation.defaults, **_normalize_names(options), **fixed}

    def is_ready() -> bool:
        return all(_can_log_in(port, user, password) for user, password in passwords.items())

    launch = LaunchOptions(
        installation.name, (*installation.command, *command_line(chosen)), data / "server.log", is_ready
    )
    return kind(
        host=HOST,
        port=port,
        socket=socket,
        user="root",
        password=passwords["root"],
        cdc_user=CDC_USER,
        cdc_password=passwords[CDC_USER],
        data_dir=data,
        version=installation.version,
        process=ServerProcess(launch),
    )


def _copy_template(installation: Installation, data: Path) -> None:
    """Copies to a temporary folder and renames it, so that an interrupted copy is not used as a data folder."""
    if any(data.iterdir()):
        raise EmbeddedServerError(
            f"{data} is neither empty nor a data folder of {installation.name}; choose another folder"
        )
    copying = data.with_name(f"{data.name}.copying")
    shutil.rmtree(copying, ignore_errors=True)
    shutil.copytree(installation.template, copying, ignore=shutil.ignore_patterns(*installation.not_copied))
    copying.chmod(FOLDER_MODE)
    copying.rename(data)


# Small, because several servers run on one machine; no fsync, because their data are disposable.
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


def _normalize_names(options: Mapping[str, str]) -> dict[str, str]:
    return {name.lstrip("-").replace("-", "_"): value for name, value in options.items()}


def _load_passwords(data: Path) -> dict[str, str]:
    """Passwords by account, from the data folder; new ones are generated and stored there first."""
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
    """One statement per line, as an init file requires; safe to run again."""
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
    """The login of each account at the start also fills MySQL's password cache, so that logins without TLS work."""
    from binlogsync.mysql.application_login import can_log_in

    return can_log_in(HOST, port, user, password, _PROBE_TIMEOUT_S)


def root_options() -> dict[str, str]:
    """The option that allows root to run a database server, which it refuses otherwise."""
    return {"user": "root"} if os.geteuid() == 0 else {}

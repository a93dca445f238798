"""Where the server is and how to log in, and one plain SQL connection to it.

A `MySQLConfig` is data: it opens nothing, and never prints its password. `connect` opens one autocommit connection
for the queries of this package, and turns an error into a SourceError with the next step. Nothing here reads a
binlog.
"""

from __future__ import annotations

import hashlib
import os
import socket
import ssl
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import pymysql
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import load_pem_public_key
from pymysql.constants import CR, ER

from binlogsync.errors import BinlogSyncError, ConfigError, SourceError
from binlogsync.mysql.error_codes import (
    ER_ACCOUNT_HAS_BEEN_LOCKED,
    ER_MUST_CHANGE_PASSWORD,
    ER_MUST_CHANGE_PASSWORD_LOGIN,
    ER_SECURE_TRANSPORT_REQUIRED,
    ER_SERVER_OFFLINE_MODE,
    MARIADB_ER_ACCOUNT_HAS_BEEN_LOCKED,
)
from binlogsync.mysql.guarded_connection import GuardedConnection, LoginPolicy, unverified_context
from binlogsync.mysql.session import COLLATION, Connection, prepare_session

TLSMode = Literal["preferred", "required", "verify_ca", "verify_identity", "disabled"]
_MODES = ("preferred", "required", "verify_ca", "verify_identity", "disabled")
_HOST_NAME_LIMIT = 60
_DERIVED_FROM = 2**30  # derived server ids start here, out of the way of ids that people give


@dataclass(frozen=True, slots=True)
class TLS:
    """How the connection is encrypted, with the meanings of the mysql client's --ssl-mode.

    Attributes:
        mode: "preferred" encrypts where the server can; "required" always; "verify_ca" checks the server's certificate
            against `ca` (the system's authorities when None); "verify_identity" its host name too; "disabled" never.
        ca, cert, key: PEM files.
    """

    mode: TLSMode = "preferred"
    ca: str | None = None
    cert: str | None = None
    key: str | None = None

    def __post_init__(self) -> None:
        if self.mode not in _MODES:
            raise ConfigError(f"TLS mode {self.mode!r} does not exist; choose one of {', '.join(_MODES)}")
        if self.mode in ("preferred", "disabled") and (self.ca or self.cert or self.key):
            raise ConfigError(
                f"TLS files are given, but mode {self.mode!r} would ignore them; set the mode to required, "
                "verify_ca or "
                "verify_identity"
            )
        if self.ca and self.mode == "required":
            raise ConfigError("a TLS authority is given, but mode 'required' does not check it; use verify_ca")


@dataclass(frozen=True, slots=True)
class MySQLConfig:
    """One source.

    Attributes:
        host, port: where the server is; `unix_socket` wins over both. Several hosts, separated by commas and each with
            optionally a port (db1,db2:3307), are servers that replicate from each other: the writable one is found at
            every connection (`find_writable_host`).
        user, password: the account.
        tls: how to encrypt.
        public_key_file: the server's RSA key (PEM; its public_key.pem), for accounts with caching_sha2_password or
            sha256_password where there is no TLS. A key that the server sends is never used.
        server_id: server id of this reader, unique among the replicas of the server; None derives a stable
            one from `source`, this machine's name and the folder (`replica_identity`).
        source: name of the source.
        replicas: hosts of its replicas, as `host`, with the same account; loads can pause while they lag
            (snapshot/throttle.py). None for none.
        connect_timeout_s: time limit for connecting and logging in, in seconds.
        heartbeat_s: interval of the heartbeats that the server sends while the source is idle.
    """

    host: str = "127.0.0.1"
    port: int = 3306
    user: str = "root"
    password: str = field(default="", repr=False)
    unix_socket: str | None = None
    tls: TLS = field(default_factory=TLS)
    public_key_file: str | None = None
    server_id: int | None = None
    source: str = "mysql"
    replicas: str | None = None
    connect_timeout_s: float = 10.0
    heartbeat_s: float = 10.0

    def __post_init__(self) -> None:
        for port in (self.port, *(port for _, port in self._hosts())):
            if not 0 < port < 65536:
                raise ConfigError(f"port {port} does not exist; MySQL's is 3306")
        if self.server_id is not None and not 0 < self.server_id < 2**32:
            raise ConfigError(f"server_id {self.server_id} is not between 1 and 4294967295")
        if self.connect_timeout_s <= 0 or not 0.001 <= self.heartbeat_s <= 3600:
            raise ConfigError("connect_timeout_s has to be above 0, and heartbeat_s between 0.001 and 3600")
        if not self._hosts():
            raise ConfigError("no host is named; write one, or several separated by commas: db1,db2:3307")
        _ = self.replica_configs  # raises ConfigError for wrong hosts

    @property
    def address(self) -> str:
        """Where the server is, for messages."""
        return self.unix_socket or ", ".join(f"{host}:{port}" for host, port in self._hosts())

    @property
    def candidates(self) -> tuple[MySQLConfig, ...]:
        """One for each host, in their order; itself when there is one."""
        hosts = self._hosts()
        if self.unix_socket or (len(hosts) == 1 and hosts[0] == (self.host, self.port)):
            return (self,)
        return tuple(replace(self, host=host, port=port) for host, port in hosts)

    @property
    def replica_configs(self) -> tuple[MySQLConfig, ...]:
        """How to connect to each of `replicas`."""
        if self.replicas is None:
            return ()
        return replace(self, host=self.replicas, unix_socket=None, replicas=None).candidates

    def _hosts(self) -> list[tuple[str, int]]:
        found = []
        for part in (each.strip() for each in self.host.split(",") if each.strip()):
            host, colon, port = part.partition(":")
            is_pair = colon and port.isascii() and port.isdigit()  # and no address of IPv6
            found.append((host, int(port)) if is_pair else (part, self.port))
        return found

    @property
    def replica_id(self) -> int:
        """`server_id`, or one derived from `replica_identity`."""
        if self.server_id is not None:
            return self.server_id
        digest = hashlib.sha256(self.replica_identity.encode()).digest()
        return _DERIVED_FROM + int.from_bytes(digest[:4], "big") % (2**32 - _DERIVED_FROM)

    @property
    def replica_name(self) -> str:
        """How SHOW REPLICAS lists this reader: source and machine."""
        return f"binlogsync/{self.source}@{socket.gethostname()}"[:_HOST_NAME_LIMIT]

    @property
    def replica_identity(self) -> str:
        """What makes this reader another one than the rest: source, machine, and the folder it runs in.

        The server ends the dump of a reader when another one connects with the same id. Two checkouts, or two projects
        with one installation, are two readers; a tail that is started again is the same one.
        """
        folders = [str(Path(__file__).resolve().parents[2])]
        with suppress(OSError):  # a folder that was removed
            folders.append(str(Path.cwd()))
        return ":".join((f"{self.source}@{socket.gethostname()}", *folders))


def find_writable_host(config: MySQLConfig) -> MySQLConfig:
    """The first host that answers and accepts writes, else the first that answers.

    Raises SourceError with the error of each host when none answers.
    """
    if len(config.candidates) == 1:
        return config.candidates[0]
    answering, refusals = None, []
    for each in config.candidates:
        try:
            with closing(connect(each)) as connection:
                row = fetch_row(each, connection, "SELECT @@GLOBAL.read_only AS read_only")
        except SourceError as error:
            refusals.append(str(error))
            continue
        if str(row["read_only"]) in ("0", "OFF"):
            return each
        answering = answering or each
    if answering is None:
        raise SourceError("none of the hosts answers: " + "; ".join(refusals))
    return answering


def connect(config: MySQLConfig, *, read_timeout_s: float = 60.0) -> Connection:
    """An autocommit connection, utf8mb4, to the writable host, with the session variables of session.py.

    All connections to a source are opened here. Raises SourceError when the server refuses, ConfigError for invalid
    TLS files.
    """
    config = find_writable_host(config)
    address: dict[str, Any] = {"host": config.host, "port": config.port}
    if config.unix_socket:
        address["unix_socket"] = config.unix_socket
    with translate_errors(config):
        if config.unix_socket:
            os.stat(config.unix_socket)  # pymysql leaves a socket open when there is none
        connection = GuardedConnection(
            _guard(config),
            **address,
            **_tls_arguments(config),
            user=config.user,
            password=config.password.encode(),  # pymysql would encode text as latin1; MySQL's clients send UTF-8
            charset="utf8mb4",
            collation=COLLATION,
            autocommit=None,  # prepare_session sets it
            connect_timeout=config.connect_timeout_s,
            read_timeout=read_timeout_s,
            write_timeout=read_timeout_s,
            program_name="binlogsync",
        )
        try:
            prepare_session(connection)
        except BaseException:
            connection.close()
            raise
        return connection


@contextmanager
def translate_errors(config: MySQLConfig) -> Iterator[None]:
    """Raises what pymysql raises inside the block, or what an answer that makes no sense raises, as a SourceError
    with the next step.
    """
    try:
        yield
    except BinlogSyncError:
        raise
    except (pymysql.MySQLError, OSError, RuntimeError) as error:
        raise SourceError(_explain(config, error)) from error
    except Exception as error:  # noqa: BLE001 - pymysql raises anything, Exception itself too, on bytes it cannot read
        raise SourceError(
            f"{config.user} at {config.address}: the answer is not what a MySQL or MariaDB server sends "
            f"({type(error).__name__}: {error}); {_WHO_ANSWERS}"
        ) from error


def fetch(config: MySQLConfig, connection: Connection, sql: str, arguments: object = None) -> list[dict[str, Any]]:
    """The rows of one statement, by column name. Raises SourceError."""
    with translate_errors(config), connection.cursor(pymysql.cursors.DictCursor) as cursor:
        cursor.execute(sql, arguments)
        asked = f"{config.user} at {config.address}: {sql}"
        return [_Row(asked, row) for row in cursor.fetchall()]


def fetch_row(config: MySQLConfig, connection: Connection, sql: str, arguments: object = None) -> dict[str, Any]:
    """The first row of a statement that always has one. Raises SourceError."""
    rows = fetch(config, connection, sql, arguments)
    if not rows:
        raise SourceError(f"{config.user} at {config.address}: {sql}: no row in the answer; {_WHO_ANSWERS}")
    return rows[0]


class _Row(dict[str, Any]):
    """A row that reports a column that the server left out."""

    def __init__(self, asked: str, values: Mapping[str, Any]) -> None:
        super().__init__(values)
        self._asked = asked

    def __missing__(self, name: str) -> Any:
        raise SourceError(f"{self._asked}: no column {name} in the answer; {_WHO_ANSWERS}")


def error_code(error: BaseException | None) -> int:
    """The server's or client's number of an error that pymysql raised, seen through a SourceError; 0 when it has
    none.
    """
    if isinstance(error, SourceError):
        error = error.__cause__
    code = error.args[0] if isinstance(error, pymysql.MySQLError) and error.args else 0
    return code if isinstance(code, int) else 0


def _guard(config: MySQLConfig) -> LoginPolicy:
    """Raises ConfigError for a public key that cannot be read."""
    key = None
    if config.public_key_file:
        try:
            key = Path(config.public_key_file).read_bytes()
            load_pem_public_key(key)
        except (OSError, ValueError, UnsupportedAlgorithm) as error:
            raise ConfigError(f"{config.public_key_file} is no public key in PEM form: {error}") from error
    is_verified = bool(config.unix_socket) or config.tls.mode in ("verify_ca", "verify_identity")
    return LoginPolicy(config.connect_timeout_s, is_verified, key)


def _tls_arguments(config: MySQLConfig) -> dict[str, Any]:
    """pymysql's arguments; a context of our own, because pymysql drops the host name check when it is given no `ca`."""
    tls = config.tls
    if tls.mode == "disabled" or (tls.mode == "preferred" and config.unix_socket):
        return {"ssl_disabled": True}
    if tls.mode == "preferred":
        return {}
    try:
        context = unverified_context() if tls.mode == "required" else ssl.create_default_context(cafile=tls.ca)
        # The certificates that MySQL makes for itself do not pass the strict rules that newer Pythons turn on.
        context.verify_flags &= ~ssl.VERIFY_X509_STRICT
        context.check_hostname = tls.mode == "verify_identity"
        if tls.cert:
            context.load_cert_chain(tls.cert, tls.key)
    except OSError as error:
        named = ", ".join(name for name in (tls.ca, tls.cert, tls.key) if name)
        raise ConfigError(f"the TLS files cannot be used ({named}): {error}") from error
    return {"ssl": context}


_WHO_ANSWERS = "check host and port, and what proxy may be between"
_USER_LIMIT = "raise max_user_connections of the server or of the account (ALTER USER ... WITH MAX_USER_CONNECTIONS 0)"
_EXPIRED = "the account's password has expired: ALTER USER ... IDENTIFIED BY ... PASSWORD EXPIRE NEVER"
_LOCKED = "unlock the account: ALTER USER ... ACCOUNT UNLOCK"
_NEXT_STEP: Mapping[int, str] = {
    ER.ACCESS_DENIED_ERROR: "check user and password, and from which hosts the account may log in (SELECT user, host "
    "FROM mysql.user); an account that needs TLS refuses a connection without it in the same words",
    ER.DBACCESS_DENIED_ERROR: "the account is missing a privilege; binlogsync doctor prints the GRANT",
    ER.SPECIFIC_ACCESS_DENIED_ERROR: "the account is missing a privilege; binlogsync doctor prints the GRANT",
    ER.CON_COUNT_ERROR: "raise max_connections or close other connections, then try again",
    ER.TOO_MANY_USER_CONNECTIONS: _USER_LIMIT,
    ER.USER_LIMIT_REACHED: _USER_LIMIT,
    ER.MAX_PREPARED_STMT_COUNT_REACHED: "raise max_prepared_stmt_count in the server; rows are read by one prepared "
    "statement for each connection",
    ER.NEW_ABORTING_CONNECTION: "correct the server's init_connect (SELECT @@init_connect), it fails for this account",
    ER_MUST_CHANGE_PASSWORD: _EXPIRED,
    ER_MUST_CHANGE_PASSWORD_LOGIN: _EXPIRED,
    ER_SERVER_OFFLINE_MODE: "turn offline_mode off in the server, or wait until its administrator does",
    ER_ACCOUNT_HAS_BEEN_LOCKED: _LOCKED,
    MARIADB_ER_ACCOUNT_HAS_BEEN_LOCKED: _LOCKED,
    ER.HOST_IS_BLOCKED: "the server has blocked this machine after failed attempts; run FLUSH HOSTS there",
    ER.HOST_NOT_PRIVILEGED: "create the account for this machine's address, or for '%'",
    CR.CR_SERVER_LOST: "the server closed the connection; it may be restarting: try again",
    CR.CR_SERVER_GONE_ERROR: "the server closed the connection; it may be restarting: try again",
    CR.CR_SSL_CONNECTION_ERROR: "turn TLS on in the server, or set the TLS mode to preferred or disabled",
    CR.CR_AUTH_PLUGIN_CANNOT_LOAD: "give the account a plugin that this client has: caching_sha2_password on MySQL, "
    "mysql_native_password on MariaDB",
    ER_SECURE_TRANSPORT_REQUIRED: "the server takes no connections without TLS; set the TLS mode to required or "
    "verify_ca",
}


def _explain(config: MySQLConfig, error: BaseException) -> str:
    """What failed, where, and what to do next; never the password."""
    text = str(error.args[1]) if len(error.args) > 1 else str(error)
    step = _NEXT_STEP.get(error_code(error)) or _network_step(config, error)
    return f"{config.user} at {config.address}: {text}" + (f"; {step}" if step else "")


def _network_step(config: MySQLConfig, error: BaseException) -> str:
    cause = getattr(error, "original_exception", error)
    if isinstance(cause, ssl.SSLCertVerificationError):
        return "its certificate does not pass; name the authority that signed it as TLS ca, or verify less"
    if isinstance(cause, ssl.SSLError):
        return "the TLS handshake failed; see the server's tls_version, or set another TLS mode"
    if isinstance(cause, socket.gaierror):
        return "the host name is unknown here; check it and the name service"
    if isinstance(cause, FileNotFoundError):
        return "there is no such socket; check the path (SELECT @@socket), or use host and port"
    if isinstance(cause, ConnectionRefusedError):
        return "nothing listens there; check host and port, that the server runs, and its bind_address"
    if isinstance(cause, TimeoutError):
        return "no answer in time; check host, port and firewalls"
    if isinstance(error, RuntimeError):
        return "install what the account's plugin needs: pip install 'PyMySQL[rsa,ed25519]'"
    return ""

"""The connection to Redis (5 or newer) or Valkey that the stores share; errors name the next step.

It connects at the first call.
"""

from __future__ import annotations

import ssl
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import redis
from redis.backoff import ExponentialBackoff
from redis.retry import Retry

from binlogsync.errors import StoreError

_RETRIES, _FIRST_PAUSE_S, _LONGEST_PAUSE_S = 2, 0.05, 0.5
"""Every script may run twice: it is sent again after a lost reply."""


@dataclass(frozen=True, slots=True)
class RedisOptions:
    """Connection options for Redis.

    Attributes:
        host, port, database: address of the server, and number of the database.
        username, password: of an ACL user, or the password alone; None without authentication.
        tls: use TLS, and verify the server's certificate against `tls_ca_file` (None: the system's authorities).
        tls_check_hostname: require `host` as the name in the certificate.
        tls_cert_file, tls_key_file: certificate and key of this client, if the server requires them.
        prefix: prefix of the keys.
        timeout_s: time limit for connecting and for each of three tries of a call.
    """

    host: str = "127.0.0.1"
    port: int = 6379
    database: int = 0
    username: str | None = None
    password: str | None = field(default=None, repr=False)
    tls: bool = False
    tls_ca_file: str | None = None
    tls_check_hostname: bool = True
    tls_cert_file: str | None = None
    tls_key_file: str | None = None
    prefix: str = "binlogsync"
    timeout_s: float = 5.0

    @property
    def address(self) -> str:
        """For logs and errors: "Redis at host:port, database 0"."""
        return f"Redis at {self.host}:{self.port}{' (TLS)' if self.tls else ''}, database {self.database}"


class RedisConnection:
    """A client of one database. `scripts` are Lua texts by name."""

    def __init__(self, options: RedisOptions, scripts: Mapping[str, str]) -> None:
        self.options = options
        self._client = _client(options)
        self._scripts = {name: self._client.register_script(text) for name, text in scripts.items()}
        self._closed = False

    def call(self, request: Callable[[redis.Redis], Any]) -> Any:
        """The reply to a request. Raises StoreError with the next step."""
        if self._closed:
            raise StoreError(f"{self.options.address}: this store is closed; make a new one")
        try:
            return request(self._client)
        except (redis.RedisError, OSError) as error:
            raise StoreError(f"{self.options.address}: {error}; {_advice(error)}") from error

    def run(self, script: str, key: str, *arguments: str | int) -> Any:
        """The reply of a script on one key. Raises StoreError."""
        return self.call(lambda _: self._scripts[script](keys=[key], args=list(arguments)))

    def close(self) -> None:
        """Close the connections; never raises."""
        self._closed = True
        self._client.close()


_AUTH = "check user name and password"
_REPLICA = "that is a replica; give the address of the primary"
_FULL = "its memory is full; raise maxmemory or remove other keys"
_TLS = "check tls_ca_file, tls_cert_file, tls_key_file and the host name"
_RIGHTS = (
    "the ACL of that user must allow EVAL, EVALSHA, SCRIPT LOAD, TIME, GET, SET, HGET, HMGET, HGETALL, HSET, HDEL, "
    "HINCRBY on the keys"
)
_ADVICE: tuple[tuple[type[Exception] | str, str], ...] = (
    (redis.exceptions.AuthenticationError, _AUTH),
    ("NOAUTH", _AUTH),
    ("WRONGPASS", _AUTH),
    (redis.exceptions.NoPermissionError, _RIGHTS),
    (redis.exceptions.ReadOnlyError, _REPLICA),
    ("READONLY", _REPLICA),
    (redis.exceptions.OutOfMemoryError, _FULL),
    ("OOM", _FULL),
    ("MISCONF", "it cannot save to its own disk; check its log"),
    ("WRONGTYPE", "the key holds something else; choose another prefix"),
    (redis.BusyLoadingError, "it is still loading its data; try again soon"),
    (ssl.SSLError, _TLS),
    ("SSL", _TLS),
    ("CERTIFICATE", _TLS),
    (redis.TimeoutError, "it did not answer in time; check the address, the network and its load"),
    (
        redis.ConnectionError,
        "check host and port, that it runs, and that TLS is on and tls_cert_file is given if it requires them",
    ),
)


def _advice(error: Exception) -> str:
    """The next step, by the class of the error or by a word of its text: script errors of old servers have no class."""
    text = str(error)
    for sign, advice in _ADVICE:
        if sign in text if isinstance(sign, str) else isinstance(error, sign):
            return advice
    return "check its log"


def _client(options: RedisOptions) -> redis.Redis:
    tls: dict[str, Any] = {}
    if options.tls:
        tls = {
            "ssl": True,
            "ssl_ca_certs": options.tls_ca_file,
            "ssl_check_hostname": options.tls_check_hostname,
            "ssl_certfile": options.tls_cert_file,
            "ssl_keyfile": options.tls_key_file,
        }
    return redis.Redis(
        host=options.host,
        port=options.port,
        db=options.database,
        username=options.username,
        password=options.password,
        socket_timeout=options.timeout_s,
        socket_connect_timeout=options.timeout_s,
        retry=Retry(ExponentialBackoff(cap=_LONGEST_PAUSE_S, base=_FIRST_PAUSE_S), _RETRIES),
        protocol=2,  # the newer one needs Redis 6
        decode_responses=True,
        **tls,
    )

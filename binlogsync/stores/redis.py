"""Positions in Redis (5 or newer) or Valkey: for tails that may start on any machine.

Each source has a hash `<prefix>:position:<source>` with the fields `checkpoint` (Checkpoint.to_text), `owner`, `epoch`,
`heard_us` (time of the last save or heartbeat, microseconds by the server's TIME) and `released` (0 or 1), and a hash
`<prefix>:bookmarks:<source>` of its bookmarks as JSON by key. Every method is one Lua script, or one command, on one
key: atomic, also in a cluster. The durability of a save depends on the server's settings (`appendonly yes`;
`appendfsync always` is the strictest); lost positions are recovered from the sinks. It connects at the first call.
"""

from __future__ import annotations

import ssl
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import redis
from redis.backoff import ExponentialBackoff
from redis.retry import Retry

from binlogsync.bookmarks import Bookmark
from binlogsync.errors import PositionError, StoreError
from binlogsync.position import Checkpoint
from binlogsync.stores import Lease, PositionStore
from binlogsync.stores.lease import ClaimRequest, claim_refused_error, lease_lost_error

_RETRIES, _FIRST_PAUSE_S, _LONGEST_PAUSE_S = (
    2,
    0.05,
    0.5,
)  # every script may run twice: it is sent again after a lost reply

_NOW = """
local at = redis.call('TIME')
local now = tonumber(at[1]) * 1000000 + tonumber(at[2])
local held = redis.call('HMGET', KEYS[1], 'owner', 'epoch', 'heard_us', 'released')
if held[3] and tonumber(held[3]) > now then
  redis.call('HSET', KEYS[1], 'heard_us', string.format('%.0f', now))
  held[3] = now
end
local age = held[3] and string.format('%.0f', now - tonumber(held[3])) or '0'
now = string.format('%.0f', now)
"""
_CLAIM = (
    _NOW
    + """
if held[1] and held[1] ~= ARGV[1] and held[4] ~= '1' and ARGV[2] ~= '1' and tonumber(age) <= tonumber(ARGV[3]) then
  return {'refused', held[1], held[2], age}
end
local epoch = redis.call('HINCRBY', KEYS[1], 'epoch', 1)
redis.call('HSET', KEYS[1], 'owner', ARGV[1], 'heard_us', now, 'released', '0')
return {'claimed', ARGV[1], tostring(epoch), '0'}
"""
)
_RENEW = (
    _NOW
    + """
if held[1] ~= ARGV[1] or held[2] ~= ARGV[2] then
  return {'lost', held[1], held[2]}
end
redis.call('HSET', KEYS[1], 'heard_us', now)
if ARGV[3] then redis.call('HSET', KEYS[1], 'checkpoint', ARGV[3]) end
return {'renewed', held[1], held[2]}
"""
)
_RELEASE = """
local held = redis.call('HMGET', KEYS[1], 'owner', 'epoch')
if held[1] == ARGV[1] and held[2] == ARGV[2] then redis.call('HSET', KEYS[1], 'released', '1') end
"""
_LEASE = _NOW + "\nreturn {held[1], held[2], age, held[4]}"


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


class RedisPositionStore(PositionStore):
    """A PositionStore in Redis; see the module for its keys."""

    name = "redis"

    def __init__(self, options: RedisOptions | None = None) -> None:
        self.options = options or RedisOptions()
        self._client = _client(self.options)
        self._scripts = {name: self._client.register_script(text) for name, text in _SCRIPTS.items()}
        self._closed = False

    def key(self, source: str) -> str:
        """The key of a source's hash."""
        return f"{self.options.prefix}:position:{source}"

    def bookmarks_key(self, source: str) -> str:
        """The key of the hash of a source's bookmarks."""
        return f"{self.options.prefix}:bookmarks:{source}"

    def facts_key(self, source: str) -> str:
        """The key of the facts about a source's server."""
        return f"{self.options.prefix}:facts:{source}"

    def describe(self) -> str:
        return self.options.address

    def load(self, source: str) -> Checkpoint | None:
        text = self._call(lambda: self._client.hget(self.key(source), "checkpoint"))
        if text is None:
            return None
        try:
            return Checkpoint.from_text(text)
        except PositionError as error:
            raise StoreError(
                f"{self.options.address}: the checkpoint in {self.key(source)!r} cannot be read ({error}); remove it "
                f"with HDEL {self.key(source)} checkpoint, the sinks contain their checkpoints"
            ) from error

    def save(self, lease: Lease, checkpoint: Checkpoint) -> None:
        self._renew(lease, checkpoint.to_text())

    def claim(self, source: str, owner: str, *, take_over: bool = False, stale_s: float = 45.0) -> Lease:
        terms = ClaimRequest(owner, take_over, stale_s)
        stale_us = f"{stale_s * 1_000_000:.0f}"
        verdict, holder, epoch, age_us = self._run("claim", source, owner, int(take_over), stale_us)
        if verdict == "refused":
            raise claim_refused_error(source, holder, int(age_us) / 1_000_000, terms)
        return Lease(source, owner, int(epoch))

    def heartbeat(self, lease: Lease) -> None:
        self._renew(lease)

    def release(self, lease: Lease) -> None:
        self._run("release", lease.source, lease.owner, lease.epoch)

    def lease(self, source: str) -> Lease | None:
        owner, epoch, age_us, released = self._run("lease", source)
        return None if owner is None else Lease(source, owner, int(epoch), int(age_us) / 1_000_000, released == "1")

    def bookmarks(self, source: str) -> Sequence[Bookmark]:
        key = self.bookmarks_key(source)
        texts = self._call(lambda: self._client.hgetall(key))
        try:
            return [Bookmark.from_text(text) for _, text in sorted(texts.items())]
        except PositionError as error:
            raise StoreError(
                f"{self.options.address}: a bookmark in {key!r} cannot be read ({error}); remove it with HDEL"
            ) from error

    def put_bookmark(self, source: str, bookmark: Bookmark) -> None:
        key = self.bookmarks_key(source)
        self._call(lambda: self._client.hset(key, bookmark.key, bookmark.to_text()))

    def delete_bookmark(self, source: str, key: str) -> bool:
        return bool(self._call(lambda: self._client.hdel(self.bookmarks_key(source), key)))

    def facts(self, source: str) -> str | None:
        text: str | None = self._call(lambda: self._client.get(self.facts_key(source)))
        return text

    def put_facts(self, source: str, text: str) -> None:
        self._call(lambda: self._client.set(self.facts_key(source), text))

    def close(self) -> None:
        self._closed = True
        self._client.close()

    def _renew(self, lease: Lease, *checkpoint: str) -> None:
        verdict, owner, epoch = self._run("renew", lease.source, lease.owner, lease.epoch, *checkpoint)
        if verdict == "lost":
            raise lease_lost_error(lease, owner, int(epoch or 0))

    def _run(self, script: str, source: str, *arguments: str | int) -> Any:
        return self._call(lambda: self._scripts[script](keys=[self.key(source)], args=list(arguments)))

    def _call(self, ask: Callable[[], Any]) -> Any:
        if self._closed:
            raise StoreError(f"{self.options.address}: this store is closed; make a new one")
        try:
            return ask()
        except (redis.RedisError, OSError) as error:
            raise StoreError(f"{self.options.address}: {error}; {_advice(error)}") from error


_SCRIPTS = {"claim": _CLAIM, "renew": _RENEW, "release": _RELEASE, "lease": _LEASE}

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

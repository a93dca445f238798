"""Stores in Redis (5 or newer) or Valkey: for tails that may start on any machine.

Each source has a hash `<prefix>:position:<source>` with the fields `checkpoint` (Checkpoint.to_text), `owner`, `epoch`,
`heard_us` (time of the last renewal, microseconds by the server's TIME) and `released` (0 or 1), a hash
`<prefix>:bookmarks:<source>` of its bookmarks as JSON by key, and the text `<prefix>:facts:<source>`. Every
method is one Lua script, or one command, on one key: atomic, also in a cluster. The durability of a save depends on the
server's settings (`appendonly yes`; `appendfsync always` is the strictest); lost positions are recovered from the
sinks.
"""

from __future__ import annotations

from collections.abc import Sequence

from binlogsync.bookmarks import Bookmark
from binlogsync.errors import PositionError, StoreError
from binlogsync.position import Checkpoint
from binlogsync.stores import BookmarkStore, CheckpointStore, Lease, LeaseStore, PositionStore
from binlogsync.stores.lease import ClaimRequest, claim_refused_error, lease_lost_error
from binlogsync.stores.redis_connection import RedisConnection, RedisOptions

__all__ = ["RedisBookmarks", "RedisCheckpoints", "RedisLeases", "RedisOptions", "RedisPositionStore"]

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
_SCRIPTS = {"claim": _CLAIM, "renew": _RENEW, "release": _RELEASE, "lease": _LEASE}


class RedisCheckpoints(CheckpointStore):
    """The field `checkpoint` of a source's hash, and the text of facts; a save renews the lease."""

    def __init__(self, client: RedisConnection) -> None:
        self._client = client

    def load(self, source: str) -> Checkpoint | None:
        key = _position_key(self._client, source)
        text = self._client.call(lambda client: client.hget(key, "checkpoint"))
        if text is None:
            return None
        try:
            return Checkpoint.from_text(text)
        except PositionError as error:
            raise StoreError(
                f"{self._client.options.address}: the checkpoint in {key!r} cannot be read ({error}); remove it with "
                f"HDEL {key} checkpoint, the sinks contain their checkpoints"
            ) from error

    def save(self, lease: Lease, checkpoint: Checkpoint) -> None:
        _renew(self._client, lease, checkpoint.to_text())

    def delete(self, lease: Lease) -> None:
        _renew(self._client, lease)
        key = _position_key(self._client, lease.source)
        self._client.call(lambda client: client.hdel(key, "checkpoint"))
        self._client.call(lambda client: client.delete(self._facts_key(lease.source)))

    def load_facts(self, source: str) -> str | None:
        text: str | None = self._client.call(lambda client: client.get(self._facts_key(source)))
        return text

    def save_facts(self, source: str, text: str) -> None:
        self._client.call(lambda client: client.set(self._facts_key(source), text))

    def _facts_key(self, source: str) -> str:
        return f"{self._client.options.prefix}:facts:{source}"


class RedisBookmarks(BookmarkStore):
    """The hash of a source's bookmarks."""

    def __init__(self, client: RedisConnection) -> None:
        self._client = client

    def load(self, source: str) -> Sequence[Bookmark]:
        key = self._key(source)
        texts = self._client.call(lambda client: client.hgetall(key))
        try:
            return [Bookmark.from_text(text) for _, text in sorted(texts.items())]
        except PositionError as error:
            raise StoreError(
                f"{self._client.options.address}: a bookmark in {key!r} cannot be read ({error}); remove it with HDEL"
            ) from error

    def put(self, source: str, bookmark: Bookmark) -> None:
        self._client.call(lambda client: client.hset(self._key(source), bookmark.key, bookmark.to_text()))

    def delete(self, source: str, key: str) -> bool:
        return bool(self._client.call(lambda client: client.hdel(self._key(source), key)))

    def _key(self, source: str) -> str:
        return f"{self._client.options.prefix}:bookmarks:{source}"


class RedisLeases(LeaseStore):
    """The other fields of a source's hash."""

    def __init__(self, client: RedisConnection) -> None:
        self._client = client

    def load(self, source: str) -> Lease | None:
        owner, epoch, age_us, released = self._client.run("lease", _position_key(self._client, source))
        return None if owner is None else Lease(source, owner, int(epoch), int(age_us) / 1_000_000, released == "1")

    def claim(self, source: str, owner: str, *, take_over: bool = False, stale_s: float = 45.0) -> Lease:
        terms = ClaimRequest(owner, take_over, stale_s)
        arguments = (owner, int(take_over), f"{stale_s * 1_000_000:.0f}")
        verdict, holder, epoch, age_us = self._client.run("claim", _position_key(self._client, source), *arguments)
        if verdict == "refused":
            raise claim_refused_error(source, holder, int(age_us) / 1_000_000, terms)
        return Lease(source, owner, int(epoch))

    def renew(self, lease: Lease) -> None:
        _renew(self._client, lease)

    def release(self, lease: Lease) -> None:
        self._client.run("release", _position_key(self._client, lease.source), lease.owner, lease.epoch)


class RedisPositionStore(PositionStore):
    """The three stores in one database of Redis; see the module for the keys."""

    name = "redis"

    def __init__(self, options: RedisOptions | None = None) -> None:
        self.options = options or RedisOptions()
        self._client = client = RedisConnection(self.options, _SCRIPTS)
        super().__init__(RedisCheckpoints(client), RedisBookmarks(client), RedisLeases(client))

    def close(self) -> None:
        self._client.close()

    def describe(self) -> str:
        return self.options.address


def _position_key(client: RedisConnection, source: str) -> str:
    return f"{client.options.prefix}:position:{source}"


def _renew(client: RedisConnection, lease: Lease, *checkpoint: str) -> None:
    """Renew the lease, and store the checkpoint with it."""
    key = _position_key(client, lease.source)
    verdict, owner, epoch = client.run("renew", key, lease.owner, lease.epoch, *checkpoint)
    if verdict == "lost":
        raise lease_lost_error(lease, owner, int(epoch or 0))

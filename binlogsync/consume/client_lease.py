"""The lease of a client id: a key in NATS that its owner renews, and that expires when the owner dies.

A second client with the same id waits to see whether the first one still renews its lease. If it does, the second is
refused; if not, the second takes over, at once if both run on one machine and the first process no longer exists. An
owner that lost its lease stops. Until it stops, conditional progress updates (progress.py) keep
processing exactly once.
"""

from __future__ import annotations

import json
import logging
import os
import secrets
import socket
import time
from pathlib import Path
from types import TracebackType
from typing import Any

from binlogsync.codec.subjects import escape, key_value_bucket, stream_name
from binlogsync.errors import ClientTakenError, LeaseLostError, SinkError
from binlogsync.nats.client import NatsConnection
from binlogsync.nats.key_value import KeyValueBucket
from binlogsync.stores.lease_heartbeat import LeaseHeartbeat
from binlogsync.text_format import format_time, time_of_us
from binlogsync.waiting import RetryTimer

log = logging.getLogger(__name__)
LEASE_S = 10.0
RENEW_S = 2.5
_POLL_S = 0.25


class ClientLease:
    """Holds the lease of a client id while the `with` block runs.

    Entering raises ClientTakenError when a live client holds the lease.
    """

    def __init__(self, connection: NatsConnection, source: str, client_id: str) -> None:
        stream = stream_name(source)
        self._bucket = KeyValueBucket(connection, key_value_bucket(source, "clients"), LEASE_S, stream)
        self._client_id = client_id
        self._source = source
        self._key = escape(client_id).replace("%", "/")
        self._token = secrets.token_hex(8)
        self._begun = time.time()
        self._revision = 0
        self._beats = 0
        self._heartbeat = LeaseHeartbeat(f"client {client_id!r}", self._renew, RENEW_S)

    def __enter__(self) -> ClientLease:
        self._revision = self._claim()
        self._heartbeat.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._heartbeat.stop()
        if self.is_lost:
            return
        try:
            self._bucket.delete(self._key)
        except SinkError as failed:
            log.warning("the lease of client %r was not released (%s); it expires by itself", self._client_id, failed)

    @property
    def is_lost(self) -> bool:
        """True once another client has taken the lease over."""
        return self._heartbeat.is_lost

    def check(self) -> None:
        """Raise ClientTakenError when another client took the lease over."""
        if self.is_lost:
            raise ClientTakenError(f"client id {self._client_id!r} was taken over by another client; stopped")

    def _claim(self) -> int:
        """Claim the lease, waiting if necessary for it to expire. Raises ClientTakenError once its owner renews it."""
        timer = RetryTimer(LEASE_S + 2 * RENEW_S, _POLL_S)
        seen: tuple[bytes, int] | None = None
        while True:
            current = self._bucket.get(self._key)
            if current is None or _has_exited(current[0]):
                revision = self._bucket.put(self._key, self._value(), 0 if current is None else current[1])
                if revision is not None:
                    return revision
            elif seen is not None and current[1] != seen[1]:
                raise self._taken_error(current[0])
            else:
                seen = current
            if timer.is_over:
                raise self._taken_error(current[0] if current else b"{}")
            timer.pause()

    def _taken_error(self, value: bytes) -> ClientTakenError:
        holder = json.loads(value)
        return ClientTakenError(
            f"client id {self._client_id!r} of source {self._source!r} is already running: process {holder.get('pid')} "
            f"on {holder.get('host')}, since {format_time(time_of_us(holder.get('since', 0) * 1e6))}"
            "; stop that process, or use another client_id (every client id gets every change)"
        )

    def _value(self) -> bytes:
        self._beats += 1
        return json.dumps({**_this_process(), "since": self._begun, "token": self._token, "beat": self._beats}).encode()

    def _renew(self) -> None:
        revision = self._bucket.put(self._key, self._value(), self._revision)
        if revision is None:
            revision = self._reclaim()
        if revision is None:
            raise LeaseLostError(f"client id {self._client_id!r} was taken over by another client")
        self._revision = revision

    def _reclaim(self) -> int | None:
        """Claim the lease again after it expired during a NATS outage; None when another client has claimed it."""
        current = self._bucket.get(self._key)
        if current is not None and json.loads(current[0]).get("token") != self._token:
            return None
        return self._bucket.put(self._key, self._value(), 0 if current is None else current[1])


def _this_process() -> dict[str, Any]:
    """This process, as the lease records it; equal `space` values mean that process ids are comparable."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        space = f"{boot} {os.readlink('/proc/self/ns/pid')}"
    except OSError:
        space = ""
    return {"host": socket.gethostname(), "pid": os.getpid(), "space": space}


def _has_exited(value: bytes) -> bool:
    """True when the owner ran on this machine and its process no longer exists."""
    holder = json.loads(value)
    if not holder.get("space") or holder["space"] != _this_process()["space"]:
        return False
    try:
        os.kill(int(holder["pid"]), 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        return False
    return False

"""One live client of a name: a lease in NATS that its holder renews, and that ends by itself when the holder dies.

A second client of the same name waits until it sees whether the first still renews: if so it is refused, if not it
takes over, at once where both are on one machine and the first is gone. A holder that could not renew in time, and
finds another in its place, is told so and stops; progress that is conditional (progress.py) keeps exact whatever
happens in between.
"""

from __future__ import annotations

import json
import logging
import os
import secrets
import socket
import threading
import time
from pathlib import Path
from types import TracebackType
from typing import Any

from binlogsync.consume.progress_nats import KeyValueBucket
from binlogsync.errors import ClientTakenError, SinkError
from binlogsync.stream.client import NatsConnection
from binlogsync.wire.subjects import escape, stream_name

log = logging.getLogger(__name__)
LEASE_S = 10.0
RENEW_S = 2.5
_LOOK_S = 0.25


class ClientLease:
    """The lease of a client id, from the beginning of the block to its end. `lost` is set when another has it.

    Entering raises ClientTakenError when a live client has the name.
    """

    def __init__(self, connection: NatsConnection, source: str, client_id: str) -> None:
        self.lost = threading.Event()
        stream = stream_name(source)
        self._bucket = KeyValueBucket(connection, f"{stream}_clients", LEASE_S, stream)
        self._client_id = client_id
        self._source = source
        self._key = escape(client_id).replace("%", "/")
        self._token = secrets.token_hex(8)
        self._begun = time.time()
        self._revision = 0
        self._beats = 0
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._renew, name=f"lease of {client_id}", daemon=True)

    def __enter__(self) -> ClientLease:
        self._revision = self._claim()
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()
        self._thread.join(5)
        if self.lost.is_set():
            return
        try:
            self._bucket.delete(self._key)
        except SinkError as failed:
            log.warning("the lease of client %r was not given back (%s); it ends by itself", self._client_id, failed)

    def _claim(self) -> int:
        """Wait until the name is free or is seen to be held by somebody who lives."""
        ends_at = time.monotonic() + LEASE_S + 2 * RENEW_S
        seen: tuple[bytes, int] | None = None
        while True:
            there = self._bucket.get(self._key)
            if there is None or _is_gone(there[0]):
                revision = self._bucket.put(self._key, self._value(), 0 if there is None else there[1])
                if revision is not None:
                    return revision
            elif seen is not None and there[1] != seen[1]:
                raise self._taken(there[0])
            else:
                seen = there
            if time.monotonic() > ends_at:
                raise self._taken(there[0] if there else b"{}")
            time.sleep(_LOOK_S)

    def _taken(self, value: bytes) -> ClientTakenError:
        holder = json.loads(value)
        return ClientTakenError(
            f"client id {self._client_id!r} of source {self._source!r} is at work already: process {holder.get('pid')} "
            f"on {holder.get('host')}, since {time.strftime('%Y-%m-%d %H:%M:%SZ', time.gmtime(holder.get('since', 0)))}"
            "; stop that one, or give this one a client_id of its own (every client id gets every change)"
        )

    def _value(self) -> bytes:
        self._beats += 1
        return json.dumps({**_me(), "since": self._begun, "token": self._token, "beat": self._beats}).encode()

    def _renew(self) -> None:
        """Until the end, or until another has the name."""
        while not self._ended.wait(RENEW_S):
            try:
                revision = self._bucket.put(self._key, self._value(), self._revision)
                if revision is None:
                    revision = self._again()
            except SinkError as error:
                log.warning("the lease of client %r could not be renewed: %s", self._client_id, error)
                continue
            if revision is None:
                log.error("client id %r was taken over by another client", self._client_id)
                self.lost.set()
                return
            self._revision = revision

    def _again(self) -> int | None:
        """The lease anew when it ended while NATS was away and nobody took it; None when somebody did."""
        there = self._bucket.get(self._key)
        if there is not None and json.loads(there[0]).get("token") != self._token:
            return None
        return self._bucket.put(self._key, self._value(), 0 if there is None else there[1])


def _me() -> dict[str, Any]:
    """Who holds the lease; `space` is one machine, as far as process ids go."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        space = f"{boot} {os.readlink('/proc/self/ns/pid')}"
    except OSError:
        space = ""
    return {"host": socket.gethostname(), "pid": os.getpid(), "space": space}


def _is_gone(value: bytes) -> bool:
    """True when the holder ran on this machine, and its process is no more."""
    holder = json.loads(value)
    if not holder.get("space") or holder["space"] != _me()["space"]:
        return False
    try:
        os.kill(int(holder["pid"]), 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        return False
    return False

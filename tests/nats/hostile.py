"""A fake NATS server: it sends the data that a test provides, and records the data that it receives."""

from __future__ import annotations

import json
import socket
import threading
from contextlib import suppress
from types import TracebackType

INFO = {"server_id": "NX", "version": "2.15.1", "headers": True, "max_payload": 1 << 20, "jetstream": True}


def info_line(**changes: object) -> bytes:
    """An INFO line of a nats-server, with these changes."""
    return b"INFO " + json.dumps({**INFO, **changes}).encode() + b"\r\n"


class HostileNatsServer:
    """Sends `first` when a client connects, and `second` after its first data; then closes the connection or waits."""

    def __init__(self, first: bytes, second: bytes = b"", *, closes: bool = True) -> None:
        self._first, self._second, self._closes = first, second, closes
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._port = self._listener.getsockname()[1]
        self._ended = threading.Event()
        self.received = b""
        self._thread = threading.Thread(target=self._serve, daemon=True)

    def url(self, scheme: str = "nats", user: str = "") -> str:
        """The address of the server."""
        return f"{scheme}://{user}127.0.0.1:{self._port}"

    def __enter__(self) -> HostileNatsServer:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join(10)

    def _serve(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                with client, suppress(OSError):
                    self._talk(client)

    def _talk(self, client: socket.socket) -> None:
        client.sendall(self._first)
        if not self._first or self._second:
            self.received += client.recv(65536)
            client.sendall(self._second)
        if not self._closes:
            client.settimeout(0.2)
            while not self._ended.is_set():
                with suppress(TimeoutError):
                    if not (data := client.recv(65536)):
                        return
                    self.received += data

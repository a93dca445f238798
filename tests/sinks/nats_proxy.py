"""A TCP proxy for nats-server that breaks connections on request."""

from __future__ import annotations

import socket
import threading
from contextlib import suppress
from types import TracebackType


class NatsProxy:
    """Forwards to (host, port). `lose_next(mark)` cuts the connection at the nth time that the server sends `mark`, and
    does not forward that.
    """

    def __init__(self, host: str, port: int) -> None:
        self._target = (host, port)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._mark: bytes | None = None
        self._until = 0
        self._before: tuple[bytes, int] | None = None
        self._open = threading.Event()
        self._open.set()
        self.cuts = 0
        self.has_held = False
        self._sockets: list[socket.socket] = []
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def url(self) -> str:
        """nats://host:port of the proxy."""
        return f"nats://127.0.0.1:{self._listener.getsockname()[1]}"

    def lose_next(self, mark: bytes, nth: int = 1) -> None:
        """Drop the server's data with the nth `mark` from now on, and cut the connection."""
        self._until = nth
        self._mark = mark

    def cut_before(self, mark: bytes, nth: int) -> None:
        """Forward the client's next data up to the nth `mark` in it, and cut the connection."""
        self._before = mark, nth

    def hold(self) -> None:
        """Hold back the client's data until `release`; `has_held` is then true once there was any."""
        self.has_held = False
        self._open.clear()

    def release(self) -> None:
        """Forward the data that was held back."""
        self._open.set()

    def cut(self) -> None:
        """Close all connections now."""
        for each in self._sockets:
            _close(each)
        self._sockets.clear()

    def close(self) -> None:
        """Stop listening and cut."""
        _close(self._listener)
        self.cut()

    def __enter__(self) -> NatsProxy:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            try:
                server = socket.create_connection(self._target)
            except OSError:  # the server is down
                _close(client)
                continue
            for each in (client, server):  # without it, each small request takes 40 ms
                each.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._sockets += [client, server]
            threading.Thread(target=self._copy, args=(client, server, False), daemon=True).start()
            threading.Thread(target=self._copy, args=(server, client, True), daemon=True).start()

    def _copy(self, source: socket.socket, target: socket.socket, is_server: bool) -> None:
        with suppress(OSError):
            while data := source.recv(65536):
                if is_server and self._mark is not None:
                    self._until -= data.count(self._mark)
                    if self._until <= 0:
                        self._mark = None
                        self.cuts += 1
                        break
                if not is_server and self._before is not None and data.count(self._before[0]) >= self._before[1]:
                    (mark, nth), self._before = self._before, None
                    target.sendall(mark.join(data.split(mark)[:nth]))
                    self.cuts += 1
                    break
                if not is_server and not self._open.is_set():
                    self.has_held = True
                    self._open.wait()
                target.sendall(data)
        _close(source)
        _close(target)


def _close(each: socket.socket) -> None:
    with suppress(OSError):
        each.shutdown(socket.SHUT_RDWR)
    each.close()

"""Listeners that are no MySQL server: they speak as much of its protocol as a script does, and keep what they received.

with Peer(lambda wire: wire.send(greeting())) as peer:
    connect(peer.config())
    peer.received
"""

from __future__ import annotations

import socket
import ssl
import struct
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from types import TracebackType

from binlogsync.mysql import TLS, MySQLConfig

PASSWORD = "correct-horse-battery"
SALT = b"abcdefghijklmnopqrst"
SSL_FLAG = 0x800
_CAPABILITIES = 0x81FFF7FF & ~0x20  # all that clients ask for, without TLS and compression
OK = b"\x00\x00\x00\x02\x00\x00\x00"
EOF = b"\xfe\x00\x00\x02\x00"


def greeting(plugin: str = "caching_sha2_password", version: str = "9.7.4", flags: int = 0) -> bytes:
    """The first packet of a server."""
    capabilities = _CAPABILITIES | flags
    low, high = capabilities & 0xFFFF, capabilities >> 16
    head = b"\x0a" + version.encode() + b"\0" + struct.pack("<I", 7) + SALT[:8] + b"\0"
    middle = struct.pack("<HBHHB", low, 45, 2, high, 21) + bytes(10)
    return head + middle + SALT[8:] + b"\0" + plugin.encode() + b"\0"


def switch(plugin: str, data: bytes = SALT + b"\0") -> bytes:
    """The packet that asks for a login by another plugin."""
    return b"\xfe" + plugin.encode() + b"\0" + data


def column(name: str) -> bytes:
    """The definition of a text column."""
    texts = (b"def", b"", b"", b"", name.encode(), b"")
    return b"".join(bytes([len(text)]) + text for text in texts) + struct.pack("<BHIBHBxx", 12, 45, 99, 253, 0, 0)


@dataclass
class PacketStream:
    """One connection: whole packets, numbered on."""

    sock: socket.socket
    received: list[bytes] = field(default_factory=list)
    number: int = 0

    def send(self, *payloads: bytes) -> None:
        for payload in payloads:
            self.raw(struct.pack("<I", len(payload))[:3] + bytes([self.number]) + payload)
            self.number = (self.number + 1) % 256

    def raw(self, data: bytes) -> None:
        self.sock.sendall(data)

    def take(self) -> bytes:
        """The next packet; raises OSError when there is none."""
        head = self._exactly(4)
        self.number = (head[3] + 1) % 256
        payload = self._exactly(int.from_bytes(head[:3], "little"))
        self.received.append(payload)
        return payload

    def encrypt(self, certificate: str, key: str) -> None:
        """Answers the request for TLS that comes next."""
        self.take()
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate, key)
        self.sock = context.wrap_socket(self.sock, server_side=True)

    def log_in(self) -> None:
        """Sends the greeting and accepts any client."""
        self.send(greeting("mysql_native_password"))
        self.take()
        self.send(OK)

    def _exactly(self, count: int) -> bytes:
        found = b""
        while len(found) < count:
            chunk = self.sock.recv(count - len(found))
            if not chunk:
                raise ConnectionError("the client has gone")
            found += chunk
        return found


class Peer:
    """Runs the script for each client; it may stop at any point, and then closes the connection."""

    def __init__(self, script: Callable[[PacketStream], None]) -> None:
        self._script = script
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self.received: list[bytes] = []

    def config(self, mode: str = "preferred", **options: object) -> MySQLConfig:
        """How to connect to it."""
        chosen: dict[str, object] = {"tls": TLS(mode), "connect_timeout_s": 20.0, **options}  # type: ignore[arg-type]
        port = self._listener.getsockname()[1]
        return MySQLConfig(port=port, user="cdc", password=PASSWORD, **chosen)  # type: ignore[arg-type]

    def __enter__(self) -> Peer:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join(30)
        assert not self._thread.is_alive()

    def _serve(self) -> None:
        while True:
            try:
                sock, _ = self._listener.accept()
            except OSError:
                return
            wire = PacketStream(sock, self.received)
            wire.sock.settimeout(30)
            with suppress(OSError):
                self._script(wire)
            with suppress(OSError):
                wire.sock.close()
            sock.close()

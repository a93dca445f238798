"""Everything that goes beyond the public API of nats-py: a safe handshake, encoded protocol text, and raw messages.

The client's reply to the INFO line of the server contains a password, a token or a signature. If TLS is required,
SecureClient never sends these in plain text. If the server announces TLS as optional, the client uses it. A malformed
INFO line raises an error of nats-py, never another exception.

nats-py builds and parses each message in Python, with a pattern, a queue and a task, which costs more than nats-server
needs to store or read it. Messages sent here are already encoded; messages received for a subscription are found in the
read buffer by a kernel (frame_splitter.py). nats-py still handles the connection, its requests, replies and errors.

This is the only file that uses private names of nats-py; tests/nats/test_nats_adapter.py fails when one of them
changes.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import Any, Final
from weakref import WeakKeyDictionary

import nats.errors
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription

from binlogsync.nats.frame_splitter import FrameSplitter
from binlogsync.nats.message_block import MessageBlock, RawMessage
from binlogsync.nats.received_text import ParserHook, SocketTap

log = logging.getLogger(__name__)

SEND_COMMAND: Final = "_send_command"
PENDING: Final = "_pending"
TRANSPORT: Final = "_transport"
WRITER: Final = "_io_writer"
BARE_WRITER: Final = "_bare_io_writer"
READER: Final = "_io_reader"
LIMIT: Final = "_limit"
RECEIVED: Final = "_buffer"
FLUSH_PENDING: Final = "_flush_pending"
PARSER: Final = "_ps"
SUBSCRIPTION_ID: Final = "_id"

_READ_BYTES = 1 << 20
"""Size of one read. With the 32 kB of nats-py, a large message takes 30 iterations of the event loop."""
_CLOSE_S, _ABANDON_S = 5.0, 0.2
_INFO_TYPES: Final = {
    "server_id": str,
    "version": str,
    "max_payload": int,
    "headers": bool,
    "nonce": str,
    "connect_urls": list,
    "tls_required": bool,
    "tls_available": bool,
    "auth_required": bool,
    "client_id": int,
    "client_ip": str,
}
_LEAST_PAYLOAD, _MOST_PAYLOAD = 1, 1 << 30


class NotEncryptedError(nats.errors.Error):
    """The server does not offer TLS, which the client requires."""


class SecureClient(Client):
    """A nats-py client that sends credentials only over TLS if `requires_tls` is True."""

    def __init__(self, requires_tls: bool) -> None:
        super().__init__()
        self._requires_tls = requires_tls

    async def _process_info(self, info: dict[str, Any], initial_connection: bool = False) -> None:
        """Validate the INFO line before nats-py uses it."""
        _check_info(info)
        if self._requires_tls and info.get("tls_available"):
            info["tls_required"] = True  # TLS is optional for the server; nats-py uses it only if this is set
        await super()._process_info(info, initial_connection)

    def _connect_command(self) -> bytes:
        """The CONNECT line, which contains the credentials; raises NotEncryptedError if TLS is required but off."""
        if self._requires_tls and not self._is_encrypted():
            raise NotEncryptedError("the server does not offer TLS")
        return super()._connect_command()

    async def _process_connect_init(self) -> None:
        await super()._process_connect_init()
        if not self.is_connected:
            raise nats.errors.Error("the server closed the connection, or answered CONNECT with neither PONG nor -ERR")

    def _is_encrypted(self) -> bool:
        writer = getattr(self._transport, WRITER, None)
        if writer is None:  # a WebSocket: its address determines the encryption
            return self._current_server is not None and self._current_server.uri.scheme == "wss"
        return writer.get_extra_info("ssl_object") is not None


def _check_info(info: Any) -> None:
    """Raise nats.errors.Error for an invalid INFO line."""
    if not isinstance(info, dict):
        raise nats.errors.Error("nats: the INFO line is not a JSON object")
    for name, kind in _INFO_TYPES.items():
        value = info.get(name)
        if value is not None and (not isinstance(value, kind) or (kind is int and isinstance(value, bool))):
            raise nats.errors.Error(f"nats: {name} of the INFO line is not of type {kind.__name__}")
    if not all(isinstance(url, str) for url in info.get("connect_urls") or ()):
        raise nats.errors.Error("nats: connect_urls of the INFO line are not texts")
    if not _LEAST_PAYLOAD <= info.get("max_payload", _LEAST_PAYLOAD) <= _MOST_PAYLOAD:
        raise nats.errors.Error(f"nats: max_payload {info['max_payload']} of the INFO line is out of range")


async def close_quietly(client: Client) -> None:
    """Close the connection; never raises, and never waits long: nats-py waits forever after a failed TLS handshake."""
    limit_s = _CLOSE_S
    if not client.is_connected:
        limit_s = _ABANDON_S
        for name in (WRITER, BARE_WRITER):
            if (writer := getattr(getattr(client, TRANSPORT), name, None)) is not None:
                writer.transport.abort()
    try:
        await asyncio.wait_for(client.close(), limit_s)
    except (OSError, TimeoutError, nats.errors.Error, asyncio.CancelledError, AttributeError, AssertionError) as error:
        log.debug("closing a connection to NATS: %r", error)


async def send_framed(client: Client, *texts: bytes | memoryview) -> None:
    """Write protocol text (complete operations in any number of parts) after everything published before.

    Returns when the socket has accepted nearly all of it. Raises nats.errors.ConnectionClosedError on a closed
    connection. A connection that breaks later is detected by the caller that waits for a reply.
    """
    if client.is_closed or not client.is_connected:
        raise nats.errors.ConnectionClosedError
    with _writing(getattr(client, TRANSPORT)):
        # The first parts are only appended to a list, so no other write can come between the parts.
        rest = texts if getattr(client, PENDING) else _write_now(client, texts)
        if rest:
            getattr(client, PENDING).extend(rest[:-1])
            await getattr(client, SEND_COMMAND)(rest[-1])
            await getattr(client, FLUSH_PENDING)(force_flush=True)


def can_send_now(client: Client) -> bool:
    """True if `send_now` probably succeeds: a connection without TLS that has nothing else to send. Any thread."""
    tap = _tap_of(getattr(client, TRANSPORT))
    return tap is not None and not getattr(client, PENDING) and tap.can_write_now


def send_now(client: Client, text: bytes) -> bool:
    """Write protocol text (complete operations) from any thread, without waking the event loop.

    Returns False if that is not possible now; nothing was written then.
    """
    tap = _tap_of(getattr(client, TRANSPORT))
    return tap is not None and not getattr(client, PENDING) and tap.write_now(text)


def _tap_of(transport: Any) -> SocketTap | None:
    """What receives from the socket of a connection, if that is a SocketTap."""
    writer = getattr(transport, WRITER, None)
    protocol = None if writer is None else writer.transport.get_protocol()
    return protocol if isinstance(protocol, SocketTap) else None


def _writing(transport: Any) -> AbstractContextManager[None]:
    """A block of the event loop that writes to the connection: other threads do not."""
    tap = _tap_of(transport)
    return nullcontext() if tap is None else tap.writing()


def _write_now(client: Client, texts: Sequence[bytes | memoryview]) -> list[bytes | memoryview]:
    """Write as much as the socket accepts now, without copying (asyncio would join the parts); returns the rest."""
    writer = getattr(getattr(client, TRANSPORT), WRITER, None)
    if writer is None or writer.transport.get_write_buffer_size() or writer.get_extra_info("ssl_object") is not None:
        return list(texts)
    try:
        taken = os.writev(writer.get_extra_info("socket").fileno(), texts)
    except OSError:  # full, or broken: asyncio then detects the error and nats-py closes the connection
        return list(texts)
    rest: list[bytes | memoryview] = []
    for text in texts:
        if taken < len(text):
            rest.append(memoryview(text)[taken:])
        taken = max(0, taken - len(text))
    return rest


async def subscribe_raw(client: Client, subject: str, take: Callable[[MessageBlock], None]) -> Subscription:
    """Subscribe, and pass every message to `take`, in order, in the event loop."""

    async def take_parsed(message: Msg) -> None:
        """Pass on a message that nats-py had begun to parse before."""
        take(MessageBlock.of(RawMessage(message.subject, message.reply, message.headers or {}, message.data)))

    subscription = await client.subscribe(subject, cb=take_parsed, pending_msgs_limit=-1, pending_bytes_limit=-1)
    receive_raw(client, subscription, take)
    return subscription


def receive_raw(client: Client, subscription: Subscription, take: Callable[[MessageBlock], None]) -> None:
    """Pass every message of the subscription to `take`, in order, in the event loop; its callback is not called."""
    splitter = _SPLITTERS.get(client)
    if splitter is None:
        splitter = _SPLITTERS[client] = FrameSplitter()
        hook = ParserHook(getattr(client, PARSER), splitter)
        hook.when_idle(partial(_tap, getattr(client, TRANSPORT), splitter))
        _read_more(getattr(client, TRANSPORT))
    splitter.add(getattr(subscription, SUBSCRIPTION_ID), take)


def _tap(transport: Any, splitter: FrameSplitter) -> None:
    """Receive from the socket directly, unless the connection is a WebSocket."""
    writer, reader = getattr(transport, WRITER, None), getattr(transport, READER, None)
    if writer is None or reader is None or reader.at_eof() or writer.transport.is_closing():
        return
    received: bytearray = getattr(reader, RECEIVED)
    text = bytes(received)
    received.clear()
    SocketTap(writer.transport, reader, splitter, text).begin()
    for name in ("write", "writelines"):
        setattr(transport, name, partial(_write_alone, transport, getattr(transport, name)))


def _write_alone(transport: Any, write: Callable[[Any], object], text: Any) -> None:
    """Write while no other thread does."""
    with _writing(transport):
        write(text)


def _read_more(transport: Any) -> None:
    """Raise the size of one read of this connection, and the buffer limit at which asyncio pauses reading."""
    reader = getattr(transport, READER, None)
    if reader is None:  # not connected yet, or a WebSocket
        return
    setattr(reader, LIMIT, _READ_BYTES)

    async def read(_: int) -> bytes:
        data: bytes = await reader.read(_READ_BYTES)
        return data

    transport.read = read


def stop_receiving(client: Client, subscription: Subscription) -> None:
    """Stop passing messages of the subscription to `take`; nats-py drops those that still arrive."""
    if (splitter := _SPLITTERS.get(client)) is not None:
        splitter.remove(getattr(subscription, SUBSCRIPTION_ID))


_SPLITTERS: WeakKeyDictionary[Client, FrameSplitter] = WeakKeyDictionary()

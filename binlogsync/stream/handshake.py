"""A nats-py client with a handshake that is safe against any server, and explanations of handshake errors.

The client's reply to the INFO line contains a password, a token or a signature. If TLS is required, the client never
sends these in plain text. If the server announces TLS as optional, the client uses it. A
malformed INFO line raises an error of nats-py, never another exception.

Uses private names of nats-py, which tests/stream/test_nats_adapter.py checks.
"""

from __future__ import annotations

import asyncio
import logging
import ssl
from typing import Any, Final

import nats.errors
from nats.aio.client import Client
from nkeys import NkeysError

log = logging.getLogger(__name__)

_TRANSPORT, _WRITER, _BARE_WRITER = "_transport", "_io_writer", "_bare_io_writer"
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

HANDSHAKE_ERRORS = (
    OSError,
    TimeoutError,
    nats.errors.Error,
    ValueError,
    TypeError,
    AttributeError,
    KeyError,
    AssertionError,
    ImportError,
    NkeysError,
)
"""What `connect` raises: the first three when network or server fail; the others come from nats-py for bytes that no
NATS server sends (and ImportError for a ws:// address, which needs aiohttp)."""


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
        writer = getattr(self._transport, _WRITER, None)
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


def explain(error: BaseException) -> str:
    """The cause of a failed handshake and the next step; continues a sentence "NATS at ... "."""
    cause = _innermost(error)
    if isinstance(cause, NotEncryptedError):
        return (
            "does not offer TLS, which a tls:// address or a TLS file requires; no credentials were sent. Configure "
            "`tls` in nats-server, or use a nats:// address without TLS files if plain text is acceptable there"
        )
    if isinstance(cause, ssl.SSLCertVerificationError):
        return (
            f"has a certificate that is not accepted: {cause.verify_message}. Set BINLOGSYNC_NATS_TLS_CA_FILE "
            f"(tls_ca_file) to the authority that signed it, and use a host name that the certificate contains"
        )
    if isinstance(cause, ssl.SSLError):
        return (
            f"failed the TLS handshake: {cause.reason or cause}; check tls_ca_file, tls_cert_file and tls_key_file "
            f"against the server's `tls` block"
        )
    if isinstance(cause, NkeysError):
        return (
            f"was not contacted, because the seed in the credentials file or NKey seed file is not valid "
            f"({type(cause).__name__}); the file must contain a line that starts with SU"
        )
    text = str(cause).lower()
    if "authorization" in text or "authentication" in text or "nkey" in text:
        return "refuses the credentials; check user and password, token, credentials file or NKey seed file"
    if isinstance(cause, TimeoutError):
        return (
            "did not complete the handshake in time; check that the address is the client port of nats-server, and "
            "that `handshake_first` is not set there"
        )
    if isinstance(cause, ImportError):
        return "is a WebSocket address, which is not supported; use nats:// or tls://"
    return f"cannot be reached ({str(cause) or repr(cause)}); check the address and that the server runs"


def _innermost(error: BaseException) -> BaseException:
    while error.__cause__ is not None and not isinstance(error, ssl.SSLError | NotEncryptedError | TimeoutError):
        error = error.__cause__
    return error


async def close_quietly(client: Client) -> None:
    """Close the connection; never raises, and never waits long: nats-py waits forever after a failed TLS handshake."""
    limit_s = _CLOSE_S
    if not client.is_connected:
        limit_s = _ABANDON_S
        for name in (_WRITER, _BARE_WRITER):
            if (writer := getattr(getattr(client, _TRANSPORT), name, None)) is not None:
                writer.transport.abort()
    try:
        await asyncio.wait_for(client.close(), limit_s)
    except (OSError, TimeoutError, nats.errors.Error, asyncio.CancelledError, AttributeError, AssertionError) as error:
        log.debug("closing a connection to NATS: %r", error)

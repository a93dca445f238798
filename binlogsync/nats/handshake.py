"""Explains why a connection to NATS failed, and what to do next."""

from __future__ import annotations

import ssl

import nats.errors
from nkeys import NkeysError

from binlogsync.nats.adapter import NotEncryptedError

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

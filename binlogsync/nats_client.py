"""NATS behind plain blocking calls: one event loop in one thread per connection."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True, kw_only=True)
class NatsOptions:
    """How to reach NATS.

    Attributes:
        url: one address, or several of one cluster separated by commas.
        user, password: for password authentication.
        token: for token authentication.
        credentials_file: path of a .creds file (JWT and seed).
        tls_ca_file: certificate authority of the server; None trusts the system's. Giving any TLS file turns TLS on, as a
            tls:// address does.
        tls_cert_file, tls_key_file: the client's own certificate.
        connect_timeout_s: for one attempt to connect.
        request_timeout_s: for one answer of the server.
        reconnect_timeout_s: how long a lost connection is tried again before a call fails.
    """

    url: str = "nats://127.0.0.1:4222"
    user: str | None = None
    password: str | None = field(default=None, repr=False)
    token: str | None = field(default=None, repr=False)
    credentials_file: str | None = None
    tls_ca_file: str | None = None
    tls_cert_file: str | None = None
    tls_key_file: str | None = None
    connect_timeout_s: float = 5.0
    request_timeout_s: float = 10.0
    reconnect_timeout_s: float = 60.0

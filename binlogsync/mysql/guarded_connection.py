"""A pymysql connection that gives no password to a peer it cannot trust, and never reads or waits without an end.

An attacker between client and server can pretend that the server has no TLS and choose the login method. The rules are
those of MySQL's own client by default, or stricter:
- in clear text (mysql_clear_password, PAM's dialog): only to a server whose certificate was verified, or over a socket;
- encrypted with an RSA key (sha256_password, caching_sha2_password beyond its cache) where TLS is off: only with a key
  that the operator named, never with one that the server sends; over TLS these plugins send the password inside it;
- hashed without the server's random number (mysql_old_password): never;
- answers to a random number (mysql_native_password, caching_sha2_password's cache, ed25519): always.

A login has one time limit and a limit of bytes; so has each result that is read into memory, and each row of one that
is not. The private names of pymysql that this overrides are checked by tests/mysql/test_guarded_connection.py.
"""

from __future__ import annotations

import select
import ssl
import time
from dataclasses import dataclass
from typing import Any

import pymysql
from pymysql.constants import CR
from pymysql.protocol import MysqlPacket

LOGIN_BYTES = 1 << 20
RESULT_BYTES = 256 << 20
ROW_BYTES = 4 << 30
_MALFORMED = 2027  # CR_MALFORMED_PACKET in include/errmsg.h
_NEEDS_TRUST = (
    "set the TLS mode to verify_ca or verify_identity, with the authority that signed the server's certificate"
)


@dataclass(frozen=True, slots=True)
class LoginPolicy:
    """What a connection may do.

    Attributes:
        login_timeout_s: seconds for connecting and logging in together.
        is_verified: True when the peer proves who it is: a checked certificate, or a socket of this machine.
        public_key: the server's RSA key (PEM) as the operator knows it, None without one.
    """

    login_timeout_s: float
    is_verified: bool
    public_key: bytes | None = None


class UnsafeLoginError(pymysql.OperationalError):
    """The server wants the password in a form that we do not give to this peer."""

    def __init__(self, text: str) -> None:
        super().__init__(CR.CR_AUTH_PLUGIN_ERR, text)


class GuardedConnection(pymysql.Connection):
    """Opens when it is made, as its base class does. Raises what pymysql raises."""

    _sock: Any
    _rfile: Any
    _result: Any
    server_version: Any

    def __init__(self, guard: LoginPolicy, **arguments: Any) -> None:
        self._guard = guard
        self._login_ends: float | None = None
        self._bytes_left = LOGIN_BYTES
        refused: dict[str, Any] = {"mysql_old_password": _OldPassword}
        if not guard.is_verified:
            refused |= {"mysql_clear_password": _ClearPassword, "dialog": _ClearPassword}
        super().__init__(auth_plugin_map=refused, **arguments)

    def connect(self, sock: Any = None) -> None:
        """Connect and log in, within the time limit."""
        self._login_ends = time.monotonic() + self._guard.login_timeout_s
        super().connect(sock)
        self._login_ends = None
        self._current_timeout = None  # pymysql then sets its own again

    @property
    def server_public_key(self) -> bytes | None:
        """pymysql asks for it where it must encrypt the password itself."""
        if not self.password or self._guard.public_key is not None:
            return self._guard.public_key
        raise UnsafeLoginError(
            "the connection has no TLS, and the server requests the password encrypted with a key that it sends, which "
            "an attacker could have replaced; turn TLS on in the server and in the TLS mode, or name the file of the "
            "server's public key"
        )

    @server_public_key.setter
    def server_public_key(self, _key: bytes | None) -> None:
        """The key that a server sends is not the operator's, or is the same."""

    @property
    def version_text(self) -> str:
        """The version as the server reports it at the login."""
        return str(self.server_version)

    def send_command(self, command: int, payload: bytes) -> None:
        """Send a command of the protocol."""
        self._execute_command(command, payload)

    def read_payload(self) -> bytes:
        """The next packet of an answer; an error packet is raised."""
        return bytes(self._read_packet().get_all_data())

    def take_buffered(self) -> bytes:
        """The next bytes of an answer, with all that pymysql has read ahead; b"" at the end of the connection."""
        return bytes(self._rfile.read(len(self._rfile.peek())))

    def readinto(self, view: memoryview) -> int:
        """Wait for further bytes of an answer, after take_buffered; 0 at the end of the connection."""
        return int(self._sock.recv_into(view))

    def has_bytes(self, timeout_ms: int) -> bool:
        """True as soon as `readinto` would not wait; False after the timeout."""
        if isinstance(self._sock, ssl.SSLSocket) and self._sock.pending():
            return True
        poll = select.poll()
        poll.register(self._sock, select.POLLIN)
        return bool(poll.poll(timeout_ms))

    def discard(self) -> None:
        """Close the socket without a word to the server, in the middle of an answer."""
        self._force_close()  # type: ignore[attr-defined]

    def _create_ssl_ctx(self, sslp: Any) -> ssl.SSLContext:
        return sslp if isinstance(sslp, ssl.SSLContext) else unverified_context()

    def _execute_command(self, command: Any, sql: Any) -> None:
        if self._login_ends is None:
            self._bytes_left = RESULT_BYTES
        super()._execute_command(command, sql)  # type: ignore[misc]

    def _read_query_result(self, unbuffered: bool = False) -> Any:
        try:
            return super()._read_query_result(unbuffered)  # type: ignore[misc]
        except RuntimeError as error:
            self._force_close()  # type: ignore[attr-defined]
            text = "the server requests a file of this machine (LOAD DATA LOCAL) without a statement that needs one"
            raise pymysql.OperationalError(
                _MALFORMED, f"{text}; check which program listens at that address"
            ) from error

    def _read_packet(self, packet_type: Any = MysqlPacket) -> Any:
        if (result := self._result) is not None and result.unbuffered_active:
            self._bytes_left = ROW_BYTES
        return super()._read_packet(packet_type)  # type: ignore[no-untyped-call]

    def _read_bytes(self, num_bytes: int) -> bytes:
        self._bytes_left -= num_bytes
        if self._bytes_left < 0:
            self._force_close()  # type: ignore[attr-defined]
            raise pymysql.OperationalError(_MALFORMED, "the server sends more bytes than any expected answer has")
        if self._login_ends is not None:
            return self._read_in_time(num_bytes, self._login_ends)
        return super()._read_bytes(num_bytes)  # type: ignore[misc,no-any-return]

    def _read_in_time(self, num_bytes: int, ends: float) -> bytes:
        """A peer that sends a byte now and then does not extend the limit."""
        found = b""
        while len(found) < num_bytes:
            left = ends - time.monotonic()
            if left <= 0:
                raise TimeoutError(f"the login was not complete after {self._guard.login_timeout_s:g} s")
            self._sock.settimeout(left)
            chunk = self._rfile.read1(num_bytes - len(found))
            if not chunk:
                raise pymysql.OperationalError(CR.CR_SERVER_LOST, "the server closed the connection during the login")
            found += chunk
        return found


def unverified_context() -> ssl.SSLContext:
    """Encrypts, and accepts any certificate; without the system's authorities, which take long to load."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


class _ClearPassword:
    """Stands in for the plugins that send the password as it is."""

    _wanted = "in clear text, and nothing proves who it is"
    _step = _NEEDS_TRUST

    def __init__(self, _connection: object) -> None:
        pass

    def authenticate(self, _packet: object) -> None:
        raise UnsafeLoginError(f"the server wants the password {self._wanted}; {self._step}")


class _OldPassword(_ClearPassword):
    _wanted = "in the hash of MySQL before 4.1 (mysql_old_password), which is as good as clear text"
    _step = "give the account another authentication plugin"

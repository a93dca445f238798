"""What a server that is not ours, or a peer between, gets from a login: no password, and no more than one error."""

from __future__ import annotations

import inspect as inspection
import random
import subprocess
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from importlib import import_module
from pathlib import Path

import pymysql
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from binlogsync import servers
from binlogsync.errors import ConfigError, SourceError
from binlogsync.mysql import TLS, BinlogDump, connect, inspect_server, preflight
from binlogsync.mysql.config import fetch
from binlogsync.mysql.guarded_connection import LOGIN_BYTES, GuardedConnection
from binlogsync.position import Checkpoint
from tests.databases import FreshDatabase
from tests.mysql.peers import EOF, OK, PASSWORD, SALT, SSL_FLAG, PacketStream, Peer, column, greeting, switch
from tests.mysql.sources import PLAIN, run, source_of

pytestmark = pytest.mark.slow

FULL_LOGIN = b"\x01\x04"
Script = Callable[[PacketStream], None]


@pytest.fixture(scope="module")
def pem() -> bytes:
    """A public key of the peer's own."""
    public = rsa.generate_private_key(65537, 2048).public_key()
    return public.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    """(certificate, which signs itself, key)."""
    folder = tmp_path_factory.mktemp("tls")
    command = "req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=peer -keyout key.pem -out cert.pem"
    subprocess.run(["openssl", *command.split()], cwd=folder, check=True, capture_output=True)
    return str(folder / "cert.pem"), str(folder / "key.pem")


def asks_for(plugin: str, pem: bytes, *, at_once: bool) -> Script:
    """A server that wants the password by this plugin, from the greeting on or by a switch, and takes what it gets."""

    def script(wire: PacketStream) -> None:
        wire.send(greeting(plugin if at_once else "mysql_native_password"))
        wire.take()
        if plugin == "dialog":
            wire.send(switch(plugin, b"\x02Password: "))
        elif not at_once or plugin in ("mysql_clear_password", "mysql_old_password"):
            wire.send(switch(plugin))
        if plugin == "caching_sha2_password":
            if not at_once:
                wire.take()
            wire.send(FULL_LOGIN)
        elif plugin == "sha256_password" and at_once:
            wire.send(b"\x01" + pem)
        if wire.take() in (b"\x01", b"\x02"):  # the client wants the key
            wire.send(b"\x01" + pem)
            wire.take()
        wire.send(OK)

    return script


@pytest.mark.parametrize("at_once", [True, False], ids=["greeting", "switch"])
@pytest.mark.parametrize("mode", ["preferred", "disabled"])
@pytest.mark.parametrize(
    ("plugin", "advice"),
    [
        ("mysql_clear_password", "verify_ca"),
        ("dialog", "verify_ca"),
        ("mysql_old_password", "another authentication plugin"),
        ("sha256_password", "turn TLS on"),
        ("caching_sha2_password", "turn TLS on"),
    ],
)
def test_no_password_without_tls(plugin: str, advice: str, mode: str, at_once: bool, pem: bytes) -> None:
    with Peer(asks_for(plugin, pem, at_once=at_once)) as peer, pytest.raises(SourceError, match=advice) as caught:
        connect(peer.config(mode))
    assert PASSWORD not in str(caught.value)
    assert peer.received
    for packet in peer.received[1:]:
        # What an answer to the random number needs; 256 bytes would be the password for the peer's RSA key.
        assert len(packet) in (1, 20, 32)
    assert not any(PASSWORD.encode() in packet for packet in peer.received)


@pytest.mark.parametrize("plugin", ["mysql_clear_password", "dialog"])
def test_clear_text_needs_a_verified_certificate(plugin: str, certificate: tuple[str, str]) -> None:
    def script(wire: PacketStream) -> None:
        wire.send(greeting(flags=SSL_FLAG))
        wire.encrypt(*certificate)
        wire.take()
        wire.send(switch(plugin, b"\x03Password: " if plugin == "dialog" else b""))
        wire.take()

    with Peer(script) as peer:
        for mode in ("preferred", "required"):
            with pytest.raises(SourceError, match="verify_ca"):
                connect(peer.config(mode))
        assert not any(PASSWORD.encode() in packet for packet in peer.received)
        with pytest.raises(SourceError, match="closed the connection"):
            connect(peer.config(tls=TLS("verify_ca", ca=certificate[0])))
        assert peer.received[-1] == PASSWORD.encode() + b"\0"


@pytest.mark.parametrize("mode", ["required", "verify_ca", "verify_identity"])
def test_nothing_is_sent_where_tls_is_asked_for_and_not_offered(mode: str) -> None:
    def script(wire: PacketStream) -> None:
        wire.send(greeting())
        wire.take()

    with Peer(script) as peer, pytest.raises(SourceError, match="TLS mode"):
        connect(peer.config(mode))
    assert peer.received == []


def test_the_connection_of_the_dump_is_guarded_too(pem: bytes, mysql_server: servers.MySQLServer) -> None:
    info = inspect_server(source_of(mysql_server))
    start = Checkpoint(info.end(), info.server_uuid)
    with (
        Peer(asks_for("mysql_clear_password", pem, at_once=False)) as peer,
        pytest.raises(SourceError, match="verify_ca"),
        BinlogDump(peer.config("disabled"), start, info=info),
    ):
        pass
    assert not any(PASSWORD.encode() in packet for packet in peer.received)


def test_a_login_beyond_the_cache_of_caching_sha2(mysql: FreshDatabase, tmp_path: Path) -> None:
    """The real server: refused without TLS, unless the operator names the key; over TLS and the socket as before."""
    server, user = mysql.server, f"cold_{mysql.name}"
    run(server, f"CREATE USER '{user}'@'%' IDENTIFIED BY '{PASSWORD}'")

    def log_in(**options: object) -> None:
        run(server, f"ALTER USER '{user}'@'%' IDENTIFIED BY '{PASSWORD}'")  # empties the cache
        connect(source_of(server, user=user, password=PASSWORD, **options)).close()

    wrong = tmp_path / "wrong.pem"
    wrong.write_text("no key")
    own = str(server.data_dir / "public_key.pem")
    with pytest.raises(SourceError, match="name the file of the server's public key"):
        log_in(tls=PLAIN)
    log_in(tls=PLAIN, public_key_file=own)
    log_in(tls=TLS("required"))
    log_in(unix_socket=str(server.socket))
    with pytest.raises(ConfigError, match="no public key in PEM form"):
        log_in(tls=PLAIN, public_key_file=str(wrong))
    run(server, f"ALTER USER '{user}'@'%' IDENTIFIED WITH sha256_password BY '{PASSWORD}'")
    for options in ({"public_key_file": own}, {"tls": TLS("required"), "public_key_file": None}):
        connect(source_of(server, user=user, password=PASSWORD, **{"tls": PLAIN, **options})).close()
    with pytest.raises(SourceError, match="name the file of the server's public key"):
        connect(source_of(server, user=user, password=PASSWORD, tls=PLAIN))
    run(server, f"DROP USER '{user}'@'%'")


# Answers that no server gives


def test_a_request_for_a_local_file(tmp_path: Path) -> None:
    def script(wire: PacketStream) -> None:
        wire.log_in()
        while True:
            wire.take()
            wire.send(b"\xfb/etc/passwd")

    with Peer(script) as peer, pytest.raises(SourceError, match="requests a file of this machine"):
        connect(peer.config())
    assert b"root:" not in b"".join(peer.received)


def answers(*packets: bytes) -> Script:
    """Logs anybody in and answers each statement that sets something with OK, any other with these packets."""

    def script(wire: PacketStream) -> None:
        wire.log_in()
        while True:
            statement = wire.take()[1:]
            is_ours = b" SESSION " in statement  # of session.py
            wire.send(*([OK] if statement.startswith(b"SET") else NO_ROWS if is_ours else packets))

    return script


NO_ROWS = (b"\x01", column("x"), EOF, EOF)
NONSENSE = (b"\x02", column("Variable_name"), column("Value"), EOF)


@pytest.mark.parametrize(
    ("packets", "message"),
    [
        (NO_ROWS, "does not show version, server_id"),
        ((b"\x01", column("x"), EOF, b"\x01y", EOF), "no column Variable_name"),
        ((*NONSENSE, b"\x07version\x01x", b"\x09server_id\x01x", EOF), "no column Log_name"),
        ((OK,), "does not show version"),
        ((b"",), "not what a MySQL"),
        ((b"\x01", b"\x00"), "not what a MySQL"),
        ((b"\xff\x15\x04#28000no",), "no"),
    ],
    ids=["no rows", "another column", "the same rows for all", "no result", "empty packet", "cut column", "error"],
)
def test_answers_that_make_no_sense(packets: tuple[bytes, ...], message: str) -> None:
    with Peer(answers(*packets)) as peer:
        for question in (inspect_server, preflight):
            with pytest.raises(SourceError, match=message):
                question(peer.config())


def test_more_bytes_than_a_login_can_have() -> None:
    def script(wire: PacketStream) -> None:
        wire.raw(b"\xff\xff\xff\x00")
        while True:
            wire.raw(bytes(1 << 16))

    with Peer(script) as peer, pytest.raises(SourceError, match="more bytes than any expected answer"):
        connect(peer.config())
    assert LOGIN_BYTES < 0xFFFFFF


def test_a_result_without_an_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("binlogsync.mysql.guarded_connection.RESULT_BYTES", 1 << 20)
    row = b"\xfd\x00\x00\x01" + bytes(1 << 16)
    with Peer(answers(b"\x01", column("x"), EOF, *[row] * 100)) as peer, pytest.raises(SourceError, match="more bytes"):
        inspect_server(peer.config())


@pytest.mark.parametrize("script", [lambda wire: wire.take(), lambda wire: drip(wire)], ids=["silence", "drip"])
def test_a_login_has_one_time_limit(script: Script) -> None:
    with Peer(script) as peer, pytest.raises(SourceError, match="no answer in time"):
        connect(peer.config(connect_timeout_s=0.5), read_timeout_s=3600)


def drip(wire: PacketStream) -> None:
    """A greeting, byte by byte, for longer than anybody waits."""
    wire.raw(b"\x00\x10\x00\x00\x0a")
    while True:
        wire.raw(b"9")
        wire.sock.settimeout(0.05)
        try:
            wire.take()
        except TimeoutError:
            continue


def conversations(seed: int) -> Iterator[list[bytes]]:
    """Packets of logins that were right, each bent at random."""
    pick = random.Random(seed)
    right = [
        [greeting("mysql_native_password"), OK, OK, OK, OK, *NO_ROWS],
        [greeting(), FULL_LOGIN, OK],
        [greeting(), b"\x01\x03", OK, OK],
        [greeting("sha256_password"), b"\x01-----BEGIN PUBLIC KEY-----", OK],
        [greeting(), switch("mysql_native_password"), OK, OK],
        [greeting(), switch("client_ed25519", SALT + SALT[:12]), OK],
        [greeting(), switch("dialog", b"\x02What?"), OK],
        [greeting(version="5.5.5-10.11.6-MariaDB"), b"\xfe", OK],
    ]
    while True:
        packets = [bytearray(packet) for packet in pick.choice(right)]
        for _ in range(pick.randint(1, 3)):
            packet = pick.choice(packets)
            match pick.randrange(5):
                case 0 if packet:
                    packet[pick.randrange(len(packet))] = pick.randrange(256)
                case 1:
                    del packet[pick.randint(0, len(packet)) :]
                case 2:
                    packet += pick.randbytes(pick.randint(1, 40))
                case 3:
                    packets.append(bytearray(pick.randbytes(pick.randint(0, 30))))
                case _:
                    packet[:1] = bytes([pick.choice((0, 1, 0xFB, 0xFE, 0xFF))])
        yield [bytes(packet) for packet in packets]


@pytest.mark.parametrize("seed", range(4))
def test_a_handshake_of_any_bytes_is_an_error_of_ours(seed: int) -> None:
    source = conversations(seed)

    def script(wire: PacketStream) -> None:
        wire.sock.settimeout(0.02)  # the client may wait for more than comes
        for packet in next(source):
            wire.send(packet)
            with suppress(TimeoutError):
                wire.take()

    with Peer(script) as peer:
        for _ in range(60):
            try:
                connection = connect(peer.config("disabled"))
            except SourceError:
                continue
            with closing(connection), pytest.raises(SourceError):
                fetch(peer.config(), connection, "SELECT 1")
    assert not any(PASSWORD.encode() in packet for packet in peer.received)


def test_the_private_names_of_pymysql() -> None:
    """A failure here means: read guarded_connection.py."""
    source = inspection.getsource(pymysql.Connection)
    for name in ("_create_ssl_ctx", "_execute_command", "_read_query_result", "_read_packet", "_read_bytes"):
        ours, base = getattr(GuardedConnection, name), getattr(pymysql.Connection, name)
        assert ours is not base
        assert f"self.{name}(" in source
        assert [*inspection.signature(ours).parameters] == [*inspection.signature(base).parameters]
    for name in ("self._sock.settimeout(", "self._rfile.read(", "self._current_timeout != "):
        assert name in source
    assert "conn.server_public_key" in inspection.getsource(import_module("pymysql._auth"))

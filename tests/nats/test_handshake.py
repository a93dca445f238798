"""The handshake with NATS: no credentials in plain text if TLS is required, and a SinkError for any malformed data of
the server.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from binlogsync import servers
from binlogsync.errors import ConfigError, SinkError
from binlogsync.nats.client import NatsConnection, NatsOptions
from tests.certificates import Certificates, make_certificates
from tests.nats.hostile import HostileNatsServer, info_line

SECRET = "never-in-plain-text"


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return make_certificates(tmp_path_factory.mktemp("tls"))


def refused(options: NatsOptions) -> str:
    """The error of a failed connection attempt."""
    with pytest.raises(SinkError) as caught, NatsConnection(options, "test"):
        pass
    return str(caught.value)


# TLS is required, and the server does not offer it


@pytest.mark.parametrize("scheme", ["tls", "TLS", "nats"])
@pytest.mark.parametrize(
    "credentials",
    [
        {"user": "u", "password": SECRET},
        {"token": SECRET},
        {"user_in_url": f"u:{SECRET}@"},
        {"user_in_url": f"{SECRET}@"},
    ],
    ids=["password", "token", "password in url", "token in url"],
)
def test_no_credential_is_sent_to_a_server_without_tls(
    scheme: str, credentials: dict[str, str], files: Certificates
) -> None:
    own: dict[str, Any] = dict(credentials)
    with HostileNatsServer(info_line(auth_required=True), b"PONG\r\n", closes=False) as server:
        url = server.url(scheme, own.pop("user_in_url", ""))
        tls: dict[str, Any] = {"tls_ca_file": files.ca} if scheme == "nats" else {}
        text = refused(NatsOptions(url=url, connect_timeout_s=60, **own, **tls))
    assert "does not offer TLS" in text
    assert "no credentials were sent" in text
    assert SECRET not in text
    assert server.received == b""


def test_one_tls_address_of_several_asks_for_tls_everywhere() -> None:
    with HostileNatsServer(info_line(auth_required=True), b"PONG\r\n", closes=False) as server:
        text = refused(NatsOptions(url=f"{server.url()},tls://127.0.0.1:1", password=SECRET, user="u"))
    assert SECRET.encode() not in server.received
    assert SECRET not in text


def test_what_stands_behind_the_info_line_is_not_taken_for_encrypted(files: Certificates) -> None:
    """Plain text that an attacker injects before the TLS handshake."""
    first = info_line(tls_required=True, auth_required=True) + b"PONG\r\n" * 3
    with HostileNatsServer(first, b"PONG\r\n", closes=False) as server:
        options = NatsOptions(url=server.url("tls"), tls_ca_file=files.ca, token=SECRET, connect_timeout_s=1)
        refused(options)
    assert SECRET.encode() not in server.received


@pytest.mark.parametrize("url", ["http://127.0.0.1:4222", "nats://a:4222,redis://b"])
def test_an_address_of_another_protocol_is_refused(url: str) -> None:
    with (
        pytest.raises(ConfigError, match=r"write it as nats://host:4222"),
        NatsConnection(NatsOptions(url=url), "test"),
    ):
        pass


# TLS, on a real server


@pytest.fixture(scope="module")
def tls_server(files: Certificates) -> Iterator[servers.NATSServer]:
    """A server that accepts both TLS and plain text."""
    tls = f'{{ cert_file: "{files.cert}", key_file: "{files.key}", ca_file: "{files.ca}" }}'
    with servers.nats(options={"tls": tls, "allow_non_tls": "true"}) as server:
        yield server


@pytest.mark.server
def test_tls_is_used_where_the_server_leaves_it_to_the_client(
    tls_server: servers.NATSServer, files: Certificates
) -> None:
    for url in (tls_server.url, tls_server.url.replace("nats:", "tls:")):
        with NatsConnection(NatsOptions(url=url, tls_ca_file=files.ca), "test") as connection:
            connection.call(lambda client: client.flush())
    with NatsConnection(NatsOptions(url=tls_server.url), "test") as connection:
        connection.call(lambda client: client.flush())


@pytest.mark.server
def test_a_wrong_certificate_is_named_at_once_and_without_a_traceback(
    tls_server: servers.NATSServer, files: Certificates, caplog: pytest.LogCaptureFixture
) -> None:
    options = NatsOptions(url=tls_server.url.replace("nats:", "tls:"))
    wrong_name = replace(options, url=options.url.replace("127.0.0.1", "localhost"), tls_ca_file=files.ca)
    with caplog.at_level(logging.ERROR):
        for each in (options, wrong_name):
            text = refused(each)
            assert "certificate that is not accepted" in text
            assert "BINLOGSYNC_NATS_TLS_CA_FILE" in text
    assert "localhost" in text
    assert not caplog.records


@pytest.mark.server
def test_a_missing_client_certificate_is_not_a_hang(files: Certificates, tmp_path: Path) -> None:
    tls = f'{{ cert_file: "{files.cert}", key_file: "{files.key}", ca_file: "{files.ca}", verify: true }}'
    with servers.nats(tmp_path / "store", options={"tls": tls}) as server:
        options = NatsOptions(url=server.url, tls_ca_file=files.ca)
        assert "NATS at" in refused(options)
        with NatsConnection(replace(options, tls_cert_file=files.cert, tls_key_file=files.key), "test") as connection:
            connection.call(lambda client: client.flush())


# Any bytes


ANY_BYTES: dict[str, tuple[bytes, bytes]] = {
    "http": (b"HTTP/1.1 400 Bad Request\r\n\r\n", b""),
    "ssh": (b"SSH-2.0-OpenSSH_9.2\r\n", b""),
    "no JSON": (b"INFO {\r\n", b""),
    "a list": (b"INFO []\r\n", b""),
    "a text": (b'INFO "x"\r\n', b""),
    "nothing": (b"INFO \r\n", b""),
    "null": (b"INFO null\r\n", b""),
    "not UTF-8": (b"INFO \xff\xfe\r\n", b""),
    "nested": (b"INFO " + b"[" * 30_000 + b"\r\n", b""),
    "huge": (b"INFO " + b"x" * (8 << 20), b""),
    "huge number": (b'INFO {"max_payload": ' + b"9" * 6000 + b"}\r\n", b""),
    "max_payload": (info_line(max_payload="many"), b"PONG\r\n"),
    "negative": (info_line(max_payload=-1), b"PONG\r\n"),
    "version": (info_line(version=2), b"PONG\r\n"),
    "no version": (info_line(version="latest"), b"PONG\r\n"),
    "urls": (info_line(connect_urls=[["a"]]), b"PONG\r\n"),
    "bad url": (info_line(connect_urls=["[::1", "a:b:c"]), b"-ERR 'no'\r\n"),
    "nonce": (info_line(nonce=7, auth_required=True), b"PONG\r\n"),
    "error first": (b"-ERR 'Maximum Connections Exceeded'\r\n", b""),
    "closed": (b"", b""),
    "refused": (info_line(), b"-ERR 'Authorization Violation'\r\n"),
    "error without text": (info_line(), b"-ERR\r\n"),
    "closed after CONNECT": (info_line(), b"\r\n"),
    "no PONG": (info_line(), b"MSG a 1 5\r\nhello\r\n"),
    "no lines": (info_line(), b"x" * (4 << 20)),
}


@pytest.mark.parametrize("name", ANY_BYTES)
def test_a_server_that_is_none_gives_an_error_of_ours(name: str, caplog: pytest.LogCaptureFixture) -> None:
    first, second = ANY_BYTES[name]
    with HostileNatsServer(first, second) as server, caplog.at_level(logging.ERROR):
        text = refused(NatsOptions(url=server.url(), connect_timeout_s=2))
    assert server.url() in text
    assert not caplog.records


def test_a_server_that_never_answers_is_given_up(caplog: pytest.LogCaptureFixture) -> None:
    with HostileNatsServer(b"INFO ", closes=False) as server, caplog.at_level(logging.ERROR):
        text = refused(NatsOptions(url=server.url(), connect_timeout_s=1))
    assert "did not complete the handshake in time" in text
    assert not caplog.records

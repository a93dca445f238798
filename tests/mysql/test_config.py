"""Connection settings, and the error messages of refused connections."""

from __future__ import annotations

import socket
from contextlib import ExitStack, closing
from dataclasses import replace
from pathlib import Path

import pytest

from binlogsync import servers
from binlogsync.errors import ConfigError, SourceError
from binlogsync.mysql import TLS, MySQLConfig, connect, find_writable_host
from binlogsync.mysql.config import fetch
from binlogsync.servers.database import DatabaseServer
from tests.mysql.sources import run, source_of


def test_the_password_is_never_printed() -> None:
    assert "hunter2" not in repr(MySQLConfig(password="hunter2"))


@pytest.mark.parametrize(
    "wrong",
    [
        {"port": 0},
        {"server_id": 0},
        {"server_id": 2**32},
        {"heartbeat_s": 0},
        {"connect_timeout_s": 0},
    ],
)
def test_what_cannot_be_right_is_refused(wrong: dict[str, int]) -> None:
    with pytest.raises(ConfigError):
        MySQLConfig(**wrong)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("mode", "files"),
    [("preferred", {"ca": "a.pem"}), ("disabled", {"key": "k.pem"}), ("required", {"ca": "a.pem"}), ("on", {})],
)
def test_tls_options_that_would_be_ignored_are_refused(mode: str, files: dict[str, str]) -> None:
    with pytest.raises(ConfigError):
        TLS(mode, **files)  # type: ignore[arg-type]


def test_the_derived_server_id_is_stable_and_differs_by_source() -> None:
    assert MySQLConfig(source="a").replica_id == MySQLConfig(source="a", host="other").replica_id
    assert MySQLConfig(source="a").replica_id != MySQLConfig(source="b").replica_id
    assert MySQLConfig(server_id=7).replica_id == 7


def test_the_derived_server_id_differs_by_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Two checkouts on one machine are two readers, which must not end each other's dump."""
    found = []
    for name in ("one", "two", "one"):
        (tmp_path / name).mkdir(exist_ok=True)
        monkeypatch.chdir(tmp_path / name)
        found.append(MySQLConfig(source="a").replica_id)
    assert found[0] == found[2] != found[1]
    (tmp_path / "one").rmdir()
    assert MySQLConfig(source="a").replica_id not in found


def test_a_missing_tls_file_names_the_file() -> None:
    with pytest.raises(ConfigError, match="nowhere.pem"):
        connect(MySQLConfig(tls=TLS("verify_ca", ca="nowhere.pem")))


@pytest.mark.parametrize(
    ("host", "addresses"),
    [
        ("db1", ["db1:3306"]),
        ("db1, db2:3307 ,", ["db1:3306", "db2:3307"]),
        ("::1", ["::1:3306"]),
        ("db1:3310", ["db1:3310"]),
    ],
)
def test_several_hosts(host: str, addresses: list[str]) -> None:
    config = MySQLConfig(host=host)
    assert [each.address for each in config.candidates] == addresses
    assert config.address == ", ".join(addresses)
    assert [each.candidates for each in config.candidates] == [(each,) for each in config.candidates]


@pytest.mark.parametrize("host", ["", " , ", "db1,db2:0", "db1,db2:99999"])
def test_hosts_that_cannot_be_right(host: str) -> None:
    with pytest.raises(ConfigError):
        MySQLConfig(host=host)


def test_the_host_that_answers_is_taken(mysql_server: servers.MySQLServer) -> None:
    config = source_of(mysql_server, host=f"127.0.0.1:1,127.0.0.1:{mysql_server.port}")
    assert find_writable_host(config).address == f"127.0.0.1:{mysql_server.port}"
    assert fetch(config, connect(config), "SELECT 1 AS one") == [{"one": 1}]
    with pytest.raises(SourceError, match="none of the hosts answers: .*127.0.0.1:1: .*nothing listens.*127.0.0.1:2: "):
        find_writable_host(source_of(mysql_server, host="127.0.0.1:1,127.0.0.1:2"))


def test_nothing_listens() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        # It stays bound, so that no other process can listen on it.
        with pytest.raises(SourceError, match="nothing listens there"):
            connect(MySQLConfig(port=free.getsockname()[1]))


def test_unknown_host() -> None:
    with pytest.raises(SourceError, match="host name is unknown"):
        connect(MySQLConfig(host="no-such-host.invalid"))


def test_no_such_socket() -> None:
    with pytest.raises(SourceError, match="no such socket"):
        connect(MySQLConfig(unix_socket="/no/such.sock"))


def test_wrong_password_is_not_repeated(mysql_server: servers.MySQLServer) -> None:
    with pytest.raises(SourceError, match="check user and password") as caught:
        connect(source_of(mysql_server, password="not-the-password"))
    assert "not-the-password" not in str(caught.value)


def test_a_password_outside_latin1(mysql: object, mysql_server: servers.MySQLServer) -> None:
    with mysql_server.connect() as root, root.cursor() as cursor:
        cursor.execute("CREATE USER IF NOT EXISTS 'greek'@'%' IDENTIFIED BY 'πάσσ'")
    connect(source_of(mysql_server, user="greek", password="πάσσ", tls=TLS("required"))).close()


def test_the_socket(mysql_server: servers.MySQLServer) -> None:
    connect(source_of(mysql_server, unix_socket=str(mysql_server.socket))).close()


def test_a_certificate_of_its_own_authority_only(mysql_server: servers.MySQLServer) -> None:
    config = source_of(mysql_server)
    ca = str(mysql_server.data_dir / "ca.pem")
    connect(replace(config, tls=TLS("verify_ca", ca=ca))).close()
    with pytest.raises(SourceError, match="certificate does not pass"):
        connect(replace(config, tls=TLS("verify_ca")))
    with pytest.raises(SourceError, match="certificate does not pass"):
        connect(replace(config, tls=TLS("verify_identity", ca=ca)))


@pytest.mark.parametrize("server", ["own_mysql", "own_mariadb"])
@pytest.mark.parametrize(
    ("change", "advice"),
    [
        ("ALTER USER limited ACCOUNT LOCK", "ACCOUNT UNLOCK"),
        ("ALTER USER limited PASSWORD EXPIRE", "PASSWORD EXPIRE NEVER"),
        ("ALTER USER limited WITH MAX_USER_CONNECTIONS 1", "raise max_user_connections"),
        ("SET GLOBAL init_connect = 'no statement'", "correct the server's init_connect"),
        ("SET GLOBAL offline_mode = ON", "turn offline_mode off"),
    ],
)
def test_a_refused_login_says_what_to_do(server: str, change: str, advice: str, request: pytest.FixtureRequest) -> None:
    if server == "own_mariadb" and "offline_mode" in change:
        pytest.skip("MariaDB has no offline mode")
    running: DatabaseServer = request.getfixturevalue(server)
    config = source_of(running, user="limited", password="x")
    run(running, "CREATE USER limited IDENTIFIED BY 'x'")
    root = running.connect()  # offline mode admits no other account
    try:
        with ExitStack() as opened, root.cursor() as cursor:
            opened.enter_context(closing(connect(config)))
            cursor.execute(change)
            if "MAX_USER_CONNECTIONS" in change:  # it counts from the first connection after it was set
                opened.enter_context(closing(connect(config)))
            with pytest.raises(SourceError, match=advice):
                connect(config)
    finally:
        with root, root.cursor() as cursor:
            for mend in ("SET GLOBAL init_connect = ''", "DROP USER limited"):
                cursor.execute(mend)
            if server == "own_mysql":
                cursor.execute("SET GLOBAL offline_mode = OFF")

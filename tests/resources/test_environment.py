"""Fields from the environment: values of set variables, defaults of others, and no visible secrets."""

import os
from pathlib import Path

import pytest

from binlogsync.errors import ConfigError
from binlogsync.mysql.config import TLS
from dagster_binlogsync.resources.mysql import MySQLSource
from resources import environment
from resources.connections import configured_jetstream, configured_mysql, configured_resources


@pytest.fixture(autouse=True)
def _nothing_set(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("BINLOGSYNC_")]:
        monkeypatch.delenv(name)


def test_mysql_defaults() -> None:
    with configured_mysql().process_config_and_initialize_cm() as mysql:
        config = mysql.config("main")
    assert (config.host, config.port, config.user, config.password) == ("127.0.0.1", 3306, "binlogsync", "")
    assert (config.tls, config.server_id, config.unix_socket, config.source) == (TLS(), None, None, "main")


def test_mysql_with_all_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    values = {"HOST": "db.example", "PORT": "3307", "USER": "cdc", "PASSWORD": "hunter2", "SOCKET": "/run/m.sock"}
    tls = {"TLS": "verify_ca", "TLS_CA_FILE": "ca.pem", "TLS_CERT_FILE": "c.pem", "TLS_KEY_FILE": "k.pem"}
    for name, value in {**values, **tls, "SERVER_ID": "77"}.items():
        monkeypatch.setenv(f"BINLOGSYNC_EU_MYSQL_{name}", value)
    made = configured_mysql("BINLOGSYNC_EU_MYSQL")
    assert "hunter2" not in repr(made)
    with made.process_config_and_initialize_cm() as mysql:
        config = mysql.config("eu")
    assert (config.host, config.port, config.user, config.password) == ("db.example", 3307, "cdc", "hunter2")
    assert (config.unix_socket, config.server_id) == ("/run/m.sock", 77)
    assert config.tls == TLS("verify_ca", "ca.pem", "c.pem", "k.pem")


def test_mysql_refuses_a_tls_mode_that_does_not_exist() -> None:
    with pytest.raises(ConfigError, match="TLS mode 'sometimes'"):
        MySQLSource(tls_mode="sometimes").config("main")


def test_jetstream(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"URL": "nats://a:1,nats://b:2", "USER": "u", "PASSWORD": "hunter2"}.items():
        monkeypatch.setenv(f"BINLOGSYNC_NATS_{name}", value)
    for name, value in {"REPLICAS": "3", "FORMAT": "arrow", "CHANGES_PER_MESSAGE": "10", "MAX_AGE_DAYS": "2"}.items():
        monkeypatch.setenv(f"BINLOGSYNC_STREAM_{name}", value)
    made = configured_jetstream()
    assert "hunter2" not in repr(made)
    with made.process_config_and_initialize_cm() as jetstream, jetstream.sink() as sink:
        options = sink.options
    assert (options.url, options.user, options.password) == ("nats://a:1,nats://b:2", "u", "hunter2")
    assert (options.replicas, options.format, options.changes_per_message) == (3, "arrow", 10)
    assert options.max_age_s == 2 * 86400


def test_the_audit_log_is_off_unless_it_has_a_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with configured_resources([])["audit"].process_config_and_initialize_cm() as audit, audit.sinks() as sinks:
        assert list(sinks) == []
    monkeypatch.setenv("BINLOGSYNC_AUDIT_PATH", str(tmp_path / "audit.duckdb"))
    with configured_resources([])["audit"].process_config_and_initialize_cm() as audit, audit.sinks() as sinks:
        assert [sink.open("main") for sink in sinks] == [None]
    assert (tmp_path / "audit.duckdb").exists()


def test_only_a_transaction_opens_the_warehouse(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BINLOGSYNC_WAREHOUSE_PATH", str(tmp_path / "w.duckdb"))
    with configured_resources([])["warehouse"].process_config_and_initialize_cm() as warehouse:
        file = warehouse.file()
        assert not (tmp_path / "w.duckdb").exists()
        with file.transaction() as connection:
            assert connection.execute("SELECT 1").fetchall() == [(1,)]


@pytest.mark.parametrize(
    ("value", "expected"), [("running", True), ("1", True), ("Yes", True), ("0", False), ("", False)]
)
def test_a_switch(value: str, expected: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BINLOGSYNC_SENSORS", value)
    assert environment.switch("BINLOGSYNC_SENSORS", False) is expected

"""What each setting of the model comes to, and what is refused."""

from __future__ import annotations

from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from binlogsync.errors import ConfigError
from binlogsync.mysql.config import TLS
from binlogsync.settings import Settings
from binlogsync.settings.catalog import list_settings
from binlogsync.settings.load import shown
from binlogsync.snapshot.throttle import LoadLimits
from binlogsync.stores.redis import RedisPositionStore
from binlogsync.stores.sqlite import SQLitePositionStore

SAMPLES = {
    "BINLOGSYNC_SOURCE": "eu, main",
    "BINLOGSYNC_MYSQL_HOST": "db.example",
    "BINLOGSYNC_MYSQL_PORT": "3307",
    "BINLOGSYNC_MYSQL_USER": "cdc",
    "BINLOGSYNC_MYSQL_PASSWORD": "hunter2",
    "BINLOGSYNC_MYSQL_SOCKET": "/run/m.sock",
    "BINLOGSYNC_MYSQL_TLS": "required",
    "BINLOGSYNC_MYSQL_TLS_CA_FILE": "ca.pem",
    "BINLOGSYNC_MYSQL_TLS_CERT_FILE": "cert.pem",
    "BINLOGSYNC_MYSQL_TLS_KEY_FILE": "key.pem",
    "BINLOGSYNC_MYSQL_PUBLIC_KEY_FILE": "public.pem",
    "BINLOGSYNC_MYSQL_SERVER_ID": "77",
    "BINLOGSYNC_MYSQL_REPLICAS": "db2,db3:3307",
    "BINLOGSYNC_NATS_URL": "nats://a:1,nats://b:2",
    "BINLOGSYNC_NATS_USER": "u",
    "BINLOGSYNC_NATS_PASSWORD": "hunter3",
    "BINLOGSYNC_NATS_TOKEN": "t",
    "BINLOGSYNC_NATS_CREDENTIALS_FILE": "a.creds",
    "BINLOGSYNC_NATS_NKEY_SEED_FILE": "a.nk",
    "BINLOGSYNC_NATS_TLS_CA_FILE": "ca.pem",
    "BINLOGSYNC_NATS_TLS_CERT_FILE": "cert.pem",
    "BINLOGSYNC_NATS_TLS_KEY_FILE": "key.pem",
    "BINLOGSYNC_STREAM_REPLICAS": "3",
    "BINLOGSYNC_STREAM_MAX_AGE_DAYS": "2",
    "BINLOGSYNC_STREAM_MAX_BYTES": "1000000000",
    "BINLOGSYNC_STREAM_COMPRESSION": "none",
    "BINLOGSYNC_STREAM_FORMAT": "arrow",
    "BINLOGSYNC_STREAM_CHANGES_PER_MESSAGE": "10",
    "BINLOGSYNC_POSITIONS": "redis",
    "BINLOGSYNC_POSITIONS_PATH": "elsewhere/p.db",
    "BINLOGSYNC_REDIS_HOST": "redis.example",
    "BINLOGSYNC_REDIS_PORT": "6380",
    "BINLOGSYNC_REDIS_DATABASE": "3",
    "BINLOGSYNC_REDIS_USER": "r",
    "BINLOGSYNC_REDIS_PASSWORD": "hunter4",
    "BINLOGSYNC_REDIS_TLS": "1",
    "BINLOGSYNC_REDIS_TLS_CA_FILE": "ca.pem",
    "BINLOGSYNC_REDIS_TLS_CERT_FILE": "cert.pem",
    "BINLOGSYNC_REDIS_TLS_KEY_FILE": "key.pem",
    "BINLOGSYNC_TABLE_LISTS": "elsewhere/tables",
    "BINLOGSYNC_WAREHOUSE_PATH": "elsewhere/w.duckdb",
    "BINLOGSYNC_WAREHOUSE_STORAGE_VERSION": "v1.4.0",
    "BINLOGSYNC_LOAD_ROWS_PER_SECOND": "5000",
    "BINLOGSYNC_LOAD_THREADS_RUNNING": "0",
    "BINLOGSYNC_LOAD_REPLICA_LAG_S": "30",
    "BINLOGSYNC_LOAD_GROUP_TABLES": "2",
    "BINLOGSYNC_AUDIT_PATH": "elsewhere/a.duckdb",
    "BINLOGSYNC_START": "oldest",
    "BINLOGSYNC_INCLUDE": "shop.*, treehole.holes",
    "BINLOGSYNC_EXCLUDE": "shop.secret",
    "BINLOGSYNC_SNAPSHOT": "initial",
    "BINLOGSYNC_SNAPSHOT_KEYLESS_ROWS": "5000",
    "BINLOGSYNC_FLUSH": "eager",
    "BINLOGSYNC_FLUSH_INTERVAL_S": "0.5",
    "BINLOGSYNC_FLUSH_ROWS": "10",
    "BINLOGSYNC_BOOKMARK_MINUTES": "0.5",
    "BINLOGSYNC_BOOKMARK_KEEP": "7",
    "BINLOGSYNC_BOOKMARK_KEEP_DAYS": "2",
    "BINLOGSYNC_CONSUMERS": "shop.consumers",
    "BINLOGSYNC_SENSORS": "running",
    "BINLOGSYNC_CONSUME": "continuous",
    "BINLOGSYNC_SHIFT_S": "60",
    "BINLOGSYNC_TABLE_REPORT_S": "60",
    "BINLOGSYNC_REPORT_S": "1",
    "BINLOGSYNC_SHOW_VALUES": "yes",
    "BINLOGSYNC_KERNELS": "public",
}
# Other variables that must be set for a variable to be used.
NEEDS = {
    "BINLOGSYNC_MYSQL_TLS_": {"BINLOGSYNC_MYSQL_TLS": "verify_ca"},
    "BINLOGSYNC_REDIS_": {"BINLOGSYNC_POSITIONS": "redis"},
}


@pytest.fixture(autouse=True)
def _in_an_empty_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)


def needs_of(variable: str) -> dict[str, str]:
    return next((needs for prefix, needs in NEEDS.items() if variable.startswith(prefix)), {})


def used_values(environment: dict[str, str]) -> tuple[Any, ...]:
    """All that the settings come to, for comparison."""
    settings = Settings.read(environment=environment)
    with closing(settings.positions()) as store:
        assert isinstance(store, SQLitePositionStore | RedisPositionStore)
        positions = store.path if isinstance(store, SQLitePositionStore) else store.options
    paths = settings.audit_path(), settings.warehouse_path(), settings.values.warehouse.storage_version
    options = settings.mysql(), settings.jetstream(), settings.tail(), settings.load_limits(), positions
    return settings.sources(), *options, *paths, settings.values.dagster, settings.values.kernels


def test_there_is_a_sample_of_every_setting() -> None:
    assert set(SAMPLES) == {setting.variable for setting in list_settings()}


@pytest.mark.parametrize("variable", sorted(SAMPLES))
def test_every_setting_has_an_effect(variable: str) -> None:
    needs = needs_of(variable)
    assert used_values({**needs, variable: SAMPLES[variable]}) != used_values(needs)


def test_defaults() -> None:
    settings = Settings.read(environment={})
    mysql = settings.mysql()
    assert (mysql.host, mysql.port, mysql.user, mysql.password, mysql.source) == (
        "127.0.0.1",
        3306,
        "binlogsync",
        "",
        "main",
    )
    assert (mysql.tls, mysql.server_id, mysql.unix_socket) == (TLS(), None, None)
    assert (settings.audit(), settings.jetstream().max_bytes, settings.tail().include) == (None, None, ())
    assert settings.load_limits() == LoadLimits()
    assert not settings.has_position_store()
    with closing(settings.positions()) as store:
        assert isinstance(store, SQLitePositionStore)
        assert store.path == Path(".binlogsync/positions.db")
    assert Settings.read(environment={"BINLOGSYNC_POSITIONS_PATH": "p.db"}).has_position_store()


def test_a_further_source_has_variables_of_its_own() -> None:
    settings = Settings.read(
        environment={
            "BINLOGSYNC_SOURCE": "main,eu-west",
            "BINLOGSYNC_MYSQL_HOST": "here",
            "BINLOGSYNC_EU_WEST_MYSQL_HOST": "there",
        }
    )
    hosts = settings.mysql().host, settings.mysql("main").host, settings.mysql("eu-west").host
    assert hosts == ("here", "here", "there")
    assert replace(settings.mysql("eu-west"), host="here", source="main") == settings.mysql()
    with pytest.raises(ConfigError, match="'us' is none of the sources"):
        settings.mysql("us")


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("BINLOGSYNC_SOURCE", "Main!"),
        ("BINLOGSYNC_SOURCE", "a,a"),
        ("BINLOGSYNC_SOURCE", ","),
        ("BINLOGSYNC_SOURCE", "a-b,a_b"),
        ("BINLOGSYNC_MYSQL_PORT", "many"),
        ("BINLOGSYNC_MYSQL_PORT", "70000"),
        ("BINLOGSYNC_MYSQL_REPLICAS", "db2:70000"),
        ("BINLOGSYNC_MYSQL_TLS", "sometimes"),
        ("BINLOGSYNC_MYSQL_TLS_CA_FILE", "ca.pem"),
        ("BINLOGSYNC_MYSQL_SERVER_ID", "0"),
        ("BINLOGSYNC_STREAM_REPLICAS", "0"),
        ("BINLOGSYNC_STREAM_MAX_AGE_DAYS", "-1"),
        ("BINLOGSYNC_STREAM_FORMAT", "xml"),
        ("BINLOGSYNC_STREAM_CHANGES_PER_MESSAGE", "1.5"),
        ("BINLOGSYNC_LOAD_ROWS_PER_SECOND", "-1"),
        ("BINLOGSYNC_LOAD_THREADS_RUNNING", "1.5"),
        ("BINLOGSYNC_POSITIONS", "bolt"),
        ("BINLOGSYNC_REDIS_PORT", "x"),
        ("BINLOGSYNC_REDIS_TLS", "perhaps"),
        ("BINLOGSYNC_START", "yesterday"),
        ("BINLOGSYNC_INCLUDE", "shop"),
        ("BINLOGSYNC_EXCLUDE", "shop"),
        ("BINLOGSYNC_FLUSH_INTERVAL_S", "nan"),
        ("BINLOGSYNC_FLUSH_INTERVAL_S", "0"),
        ("BINLOGSYNC_FLUSH_INTERVAL_S", "inf"),
        ("BINLOGSYNC_FLUSH_ROWS", "-5"),
        ("BINLOGSYNC_SENSORS", "perhaps"),
        ("BINLOGSYNC_KERNELS", "quick"),
    ],
)
def test_a_wrong_value_is_named(variable: str, value: str) -> None:
    name = variable.removesuffix("_CA_FILE")
    with pytest.raises(ConfigError, match=rf"^{name}(=.*)?( \(the environment\))?: "):
        Settings.read(environment={variable: value}).check()


def test_all_wrong_values_are_listed_with_what_is_allowed(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("BINLOGSYNC_STREAM_FORMAT=xml\n")
    with pytest.raises(ConfigError) as caught:
        Settings.read(environment={"BINLOGSYNC_FLUSH_ROWS": "many", "BINLOGSYNC_REDIS_TLS": "perhaps"})
    assert str(caught.value).splitlines() == [
        "BINLOGSYNC_STREAM_FORMAT='xml' (.env, line 1): allowed: json, arrow",
        "BINLOGSYNC_REDIS_TLS='perhaps' (the environment): allowed: yes or no",
        "BINLOGSYNC_FLUSH_ROWS='many' (the environment): allowed: whole number, at least 1",
    ]


def test_values_that_are_wrong_only_together_are_named_with_their_origin(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("BINLOGSYNC_MYSQL_TLS=disabled\nBINLOGSYNC_MYSQL_TLS_CA_FILE=ca.pem\n")
    with pytest.raises(ConfigError, match=r"^BINLOGSYNC_MYSQL_TLS \(.env, line 1\): TLS files are given"):
        Settings.read(environment={}).check()


def test_no_secret_in_what_is_printed() -> None:
    url = "nats://u:hunter5@a:1,tls://hunter6@b:2,nats://c:3"
    environment = {**SAMPLES, "BINLOGSYNC_MYSQL_TLS": "verify_ca", "BINLOGSYNC_NATS_URL": url}
    settings = Settings.read(environment=environment)
    values = {setting.variable: shown(setting, value) for setting, value in settings.items()}
    assert "hunter" not in repr((settings, settings.origins, settings.mysql(), values))
    assert values["BINLOGSYNC_NATS_URL"] == "nats://(hidden)@a:1,tls://(hidden)@b:2,nats://c:3"
    hidden = [name for name, value in values.items() if value == "(hidden)"]
    assert [name.removeprefix("BINLOGSYNC_") for name in hidden] == [
        "MYSQL_PASSWORD", "NATS_PASSWORD", "NATS_TOKEN", "REDIS_PASSWORD"
    ]  # fmt: skip

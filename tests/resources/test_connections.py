"""Resources from the settings: what the command line comes to, and no visible secrets."""

import os
from contextlib import closing
from functools import cache
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from dagster._core.remote_representation.external_data import RepositorySnap

from binlogsync.errors import ConfigError
from binlogsync.settings import Settings
from binlogsync.stores import PositionStore
from binlogsync.stores.redis import RedisPositionStore
from binlogsync.stores.sqlite import SQLitePositionStore
from dagster_binlogsync.options import build_tail_config
from dagster_binlogsync.resources.from_settings import build_mysql
from dagster_binlogsync.resources.mysql import MySQLSource
from resources.connections import configured_resources, resource_keys

SECRETS = """
source = ["main", "eu-west"]
[mysql]
password = "hunter1"
[sources.eu-west.mysql]
password = "hunter2"
[nats]
url = "nats://user:hunter3@127.0.0.1:4222"
token = "hunter4"
[positions]
store = "redis"
[redis]
password = "hunter5"
"""
EVERYTHING = """
BINLOGSYNC_SOURCE=eu,main
BINLOGSYNC_MYSQL_HOST=db.example
BINLOGSYNC_MYSQL_PORT=3307
BINLOGSYNC_MYSQL_USER=cdc
BINLOGSYNC_MYSQL_PASSWORD=hunter2
BINLOGSYNC_MYSQL_SOCKET=/run/m.sock
BINLOGSYNC_MYSQL_TLS=verify_ca
BINLOGSYNC_MYSQL_TLS_CA_FILE=ca.pem
BINLOGSYNC_MYSQL_SERVER_ID=77
BINLOGSYNC_MAIN_MYSQL_HOST=other.example
BINLOGSYNC_NATS_URL=nats://a:1,nats://b:2
BINLOGSYNC_NATS_USER=u
BINLOGSYNC_NATS_PASSWORD=hunter3
BINLOGSYNC_NATS_TLS_CA_FILE=ca.pem
BINLOGSYNC_STREAM_REPLICAS=3
BINLOGSYNC_STREAM_MAX_AGE_DAYS=0
BINLOGSYNC_STREAM_MAX_BYTES=1000000000
BINLOGSYNC_STREAM_FORMAT=arrow
BINLOGSYNC_STREAM_CHANGES_PER_MESSAGE=10
BINLOGSYNC_POSITIONS=redis
BINLOGSYNC_REDIS_HOST=redis.example
BINLOGSYNC_REDIS_DATABASE=3
BINLOGSYNC_REDIS_USER=r
BINLOGSYNC_REDIS_PASSWORD=hunter4
BINLOGSYNC_REDIS_TLS=1
BINLOGSYNC_REDIS_TLS_CERT_FILE=cert.pem
BINLOGSYNC_WAREHOUSE_PATH=elsewhere/w.duckdb
BINLOGSYNC_AUDIT_PATH=elsewhere/a.duckdb
BINLOGSYNC_START=oldest
BINLOGSYNC_INCLUDE=shop.*,`a,b`.c
BINLOGSYNC_FLUSH_INTERVAL_S=0.5
BINLOGSYNC_BOOKMARK_KEEP_DAYS=2
BINLOGSYNC_SHOW_VALUES=yes
"""


@pytest.fixture(autouse=True)
def _nothing_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        os, "environ", {name: value for name, value in os.environ.items() if not name.startswith("BINLOGSYNC_")}
    )


@cache
def instance() -> dg.DagsterInstance:
    """One for all: it is what takes long."""
    return dg.DagsterInstance.ephemeral()


def target_of(store: PositionStore) -> Any:
    """What a store was made with."""
    assert isinstance(store, SQLitePositionStore | RedisPositionStore)
    return store.path if isinstance(store, SQLitePositionStore) else store.options


@pytest.mark.parametrize("text", ["", EVERYTHING], ids=["nothing", "everything"])
def test_resources_come_to_the_same_as_the_settings(text: str, tmp_path: Path) -> None:
    (tmp_path / ".env").write_text(text)
    settings = Settings.read(tmp_path, {})
    with dg.build_resources(configured_resources(settings), instance=instance()) as made:
        for source, keys in resource_keys(settings.sources()).items():
            assert getattr(made, keys.mysql).config(source) == settings.mysql(source)
            assert build_tail_config(settings).options(source) == settings.tail(source)
        with made.jetstream.sink() as sink, made.positions.store() as store, closing(settings.positions()) as expected:
            assert sink.options == settings.jetstream()
            assert target_of(store) == target_of(expected)
        assert (made.audit.file(), Path(made.warehouse.path)) == (settings.audit_path(), settings.warehouse_path())
        assert made.warehouse.show_values is settings.values.dagster.show_values


def test_dagster_receives_secrets_as_names_of_variables(tmp_path: Path) -> None:
    (tmp_path / "binlogsync.toml").write_text(SECRETS)
    settings = Settings.read(tmp_path, {})
    resources = configured_resources(settings)
    stored = RepositorySnap.from_def(dg.Definitions(resources=resources).get_repository_def())
    assert "BINLOGSYNC_EU_WEST_MYSQL_PASSWORD" in dg.serialize_value(stored)
    assert "hunter" not in dg.serialize_value(stored) + repr(resources)
    with dg.build_resources(resources, instance=instance()) as made:
        assert made.mysql_eu_west.config("eu-west").password == "hunter2"
        assert made.jetstream.options() == settings.jetstream()


def test_mysql_refuses_a_tls_mode_that_does_not_exist() -> None:
    with pytest.raises(ConfigError, match="TLS mode 'sometimes'"):
        MySQLSource(tls_mode="sometimes").config("main")
    with pytest.raises(ConfigError, match="'us' is none of the sources"):
        build_mysql(Settings(), "us")


def test_the_audit_log_is_off_unless_it_has_a_path(tmp_path: Path) -> None:
    with configured_resources(Settings())["audit"].process_config_and_initialize_cm() as audit, audit.sinks() as sinks:
        assert list(sinks) == []
    settings = Settings.read(tmp_path, {"BINLOGSYNC_AUDIT_PATH": str(tmp_path / "audit.duckdb")})
    with configured_resources(settings)["audit"].process_config_and_initialize_cm() as audit, audit.sinks() as sinks:
        assert [sink.open("main") for sink in sinks] == [None]
    assert (tmp_path / "audit.duckdb").exists()


def test_only_a_transaction_opens_the_warehouse(tmp_path: Path) -> None:
    settings = Settings.read(tmp_path, {"BINLOGSYNC_WAREHOUSE_PATH": str(tmp_path / "w.duckdb")})
    with configured_resources(settings)["warehouse"].process_config_and_initialize_cm() as warehouse:
        file = warehouse.file()
        assert not (tmp_path / "w.duckdb").exists()
        with file.transaction() as connection:
            assert connection.execute("SELECT 1").fetchall() == [(1,)]

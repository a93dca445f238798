"""Settings of programs without Dagster, and resources of the Dagster project: the same variables, the same meaning."""

import os
import re
from contextlib import closing
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from dotenv import dotenv_values

from binlogsync.dotenv import parse_dotenv
from binlogsync.errors import ConfigError
from binlogsync.filters import TableFilter, split_patterns
from binlogsync.settings import Settings
from binlogsync.stores import PositionStore
from binlogsync.stores.redis import RedisPositionStore
from binlogsync.stores.sqlite import SQLitePositionStore
from binlogsync.variables import SETTINGS
from pipelines.tails import tail_config
from resources.connections import configured_resources
from resources.sources import configured_sources

ROOT = Path(__file__).parents[1]
EXAMPLE = (ROOT / ".env.example").read_text()
VARIABLES = re.findall(r"^#?(BINLOGSYNC_[A-Z_]+)=", EXAMPLE, re.MULTILINE)
# Runs, their reports and the sensors are Dagster's; a program without it has none.
DAGSTERS_OWN = {
    "BINLOGSYNC_SHIFT_S", "BINLOGSYNC_REPORT_S", "BINLOGSYNC_SENSORS", "BINLOGSYNC_CONSUMERS", "BINLOGSYNC_SHOW_VALUES"
}  # fmt: skip
# Read from the process's environment when the first kernel is compiled (tests/binlog/test_compiling.py).
KERNELS = {"BINLOGSYNC_KERNELS"}
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
    "BINLOGSYNC_WAREHOUSE_PATH": "elsewhere/w.duckdb",
    "BINLOGSYNC_AUDIT_PATH": "elsewhere/a.duckdb",
    "BINLOGSYNC_START": "oldest",
    "BINLOGSYNC_INCLUDE": "shop.*, treehole.holes",
    "BINLOGSYNC_EXCLUDE": "shop.secret",
    "BINLOGSYNC_FLUSH_INTERVAL_S": "0.5",
    "BINLOGSYNC_FLUSH_ROWS": "10",
    "BINLOGSYNC_BOOKMARK_MINUTES": "0.5",
    "BINLOGSYNC_BOOKMARK_KEEP": "7",
    "BINLOGSYNC_BOOKMARK_KEEP_DAYS": "2",
}
# Other variables that must be set for a variable to have an effect.
NEEDS = [
    (r"BINLOGSYNC_MYSQL_TLS_", {"BINLOGSYNC_MYSQL_TLS": "verify_ca"}),
    (r"BINLOGSYNC_REDIS_", {"BINLOGSYNC_POSITIONS": "redis"}),
]


@dataclass(frozen=True, slots=True)
class ParsedSettings:
    """All that the variables come to, for comparison."""

    sources: tuple[str, ...]
    mysql: Any
    jetstream: Any
    tail: Any
    positions: Any
    audit: Path | None
    warehouse: Path


@pytest.fixture(autouse=True)
def _nothing_set(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in [name for name in os.environ if name.startswith("BINLOGSYNC_")]:
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)


def place_of(store: PositionStore) -> Any:
    """What a store was made with."""
    if isinstance(store, SQLitePositionStore):
        return store.path
    assert isinstance(store, RedisPositionStore)
    return store.options


def by_settings() -> ParsedSettings:
    settings = Settings.read()
    audit = settings.audit_path()
    with closing(settings.positions()) as store:
        positions = place_of(store)
    return ParsedSettings(
        settings.sources(),
        settings.mysql(),
        settings.jetstream(),
        settings.tail(),
        positions,
        audit,
        settings.warehouse_path(),
    )


@cache
def instance() -> dg.DagsterInstance:
    """One for all: it is what takes long."""
    return dg.DagsterInstance.ephemeral()


def by_resources() -> ParsedSettings:
    sources = configured_sources()
    with dg.build_resources(configured_resources(sources), instance=instance()) as made:
        with made.jetstream.sink() as sink, made.positions.store() as store:
            options, positions = sink.options, place_of(store)
        return ParsedSettings(
            tuple(source.name for source in sources),
            made.mysql.config(sources[0].name),
            options,
            tail_config().options(sources[0].name),
            positions,
            None if made.audit.path == "off" else Path(made.audit.path),
            Path(made.warehouse.path),
        )


def needs_of(variable: str) -> dict[str, str]:
    return next((needs for pattern, needs in NEEDS if re.match(pattern, variable)), {})


def test_every_variable_of_the_example_is_known() -> None:
    assert set(VARIABLES) == set(SAMPLES) | DAGSTERS_OWN | KERNELS == SETTINGS


def test_nothing_set_means_the_same_to_both() -> None:
    assert by_settings() == by_resources()


@pytest.mark.parametrize("variable", sorted(SAMPLES))
def test_each_variable_means_the_same_to_both(variable: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in needs_of(variable).items():
        monkeypatch.setenv(name, value)
    before = by_settings(), by_resources()
    monkeypatch.setenv(variable, SAMPLES[variable])
    assert by_settings() == by_resources()
    assert by_settings() != before[0]
    assert by_resources() != before[1]


def test_the_example_itself_says_the_defaults(tmp_path: Path) -> None:
    defaults = by_settings()
    (tmp_path / ".env").write_text(EXAMPLE)
    assert by_settings() == defaults
    assert by_settings().positions == Path(".binlogsync/positions.db")


@pytest.mark.parametrize("line", re.findall(r"^#(BINLOGSYNC_[A-Z_]+=.+)$", EXAMPLE, re.MULTILINE))
def test_a_line_of_the_example_that_is_taken_in_is_right(line: str, tmp_path: Path) -> None:
    (tmp_path / ".env").write_text(line)
    by_settings()


def test_a_further_source_has_variables_of_its_own() -> None:
    variables = {
        "BINLOGSYNC_SOURCE": "main,eu-west",
        "BINLOGSYNC_MYSQL_HOST": "here",
        "BINLOGSYNC_EU_WEST_MYSQL_HOST": "there",
    }
    settings = Settings(variables)
    assert (settings.mysql().host, settings.mysql("main").host, settings.mysql("eu-west").host) == ("here",) * 2 + (
        "there",
    )
    assert [source.prefix for source in configured_sources(variables)][1] == "BINLOGSYNC_EU_WEST_MYSQL"
    with pytest.raises(ConfigError, match="'us' is none of the sources"):
        settings.mysql("us")


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("BINLOGSYNC_SOURCE", "Main!"),
        ("BINLOGSYNC_SOURCE", "a-b,a_b"),
        ("BINLOGSYNC_MYSQL_PORT", "many"),
        ("BINLOGSYNC_MYSQL_PORT", "70000"),
        ("BINLOGSYNC_MYSQL_TLS", "sometimes"),
        ("BINLOGSYNC_MYSQL_TLS_CA_FILE", "ca.pem"),
        ("BINLOGSYNC_MYSQL_SERVER_ID", "0"),
        ("BINLOGSYNC_STREAM_REPLICAS", "0"),
        ("BINLOGSYNC_STREAM_MAX_AGE_DAYS", "-1"),
        ("BINLOGSYNC_STREAM_FORMAT", "xml"),
        ("BINLOGSYNC_STREAM_CHANGES_PER_MESSAGE", "1.5"),
        ("BINLOGSYNC_POSITIONS", "bolt"),
        ("BINLOGSYNC_REDIS_PORT", "x"),
        ("BINLOGSYNC_REDIS_TLS", "perhaps"),
        ("BINLOGSYNC_START", "yesterday"),
        ("BINLOGSYNC_INCLUDE", "shop"),
        ("BINLOGSYNC_EXCLUDE", "shop"),
        ("BINLOGSYNC_FLUSH_INTERVAL_S", "nan"),
        ("BINLOGSYNC_FLUSH_INTERVAL_S", "0"),
        ("BINLOGSYNC_FLUSH_ROWS", "-5"),
    ],
)
def test_a_value_that_cannot_be_right_is_named(variable: str, value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    needs = {} if variable.startswith("BINLOGSYNC_MYSQL") else needs_of(variable)
    for name, needed in {**needs, variable: value}.items():
        monkeypatch.setenv(name, needed)
    with pytest.raises(ConfigError, match=variable.removesuffix("_CA_FILE").removesuffix("_TLS")):
        by_settings()


def test_the_environment_wins_over_the_file(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("BINLOGSYNC_MYSQL_HOST=file\nBINLOGSYNC_MYSQL_USER=file\n")
    mysql = Settings.read(environment={"BINLOGSYNC_MYSQL_HOST": "real"}).mysql()
    assert (mysql.host, mysql.user) == ("real", "file")


def test_no_password_in_what_is_printed() -> None:
    settings = Settings(SAMPLES | {"BINLOGSYNC_MYSQL_TLS": "verify_ca", "BINLOGSYNC_REDIS_TLS": "0"})
    shown = repr((settings, settings.mysql(), settings.jetstream(), settings.nats()))
    assert "hunter" not in shown


FILE = r"""
# a comment
export A=1
  B = two words   # not part of it
C="quoted # is part" # comment
D='single \' and \\ and \n'
E="a \"b\"\nc \\ d"
F=
G=no#comment
H=last
H=wins
I=a=b
"""


def test_the_file_is_read_as_dagster_reads_it(tmp_path: Path) -> None:
    (tmp_path / "env").write_text(FILE)
    found = parse_dotenv(FILE)
    assert found == dotenv_values(tmp_path / "env")
    assert (found["B"], found["E"], found["F"], found["G"]) == ("two words", 'a "b"\nc \\ d', "", "no#comment")


@pytest.mark.parametrize("line", ["no equals", "A='open", 'A="a" b', "1A=x", "A=${B}"])
def test_a_line_that_is_no_setting_is_an_error_without_its_value(line: str) -> None:
    with pytest.raises(ConfigError, match=r"\.env, line 2: ") as caught:
        parse_dotenv(f"X=1\n{line}hunter2")
    assert "hunter2" not in str(caught.value)


def test_patterns_of_tables_may_stand_in_backquotes() -> None:
    patterns = split_patterns("shop.*, `a.b,c`.`x*`,`d?``.`.t*, e.f")
    assert patterns == ("shop.*", "`a.b,c`.`x*`", "`d?``.`.t*", "e.f")
    captured = TableFilter(patterns)
    for database, table in [("shop", "any"), ("a.b,c", "x*"), ("d?`.", "tt"), ("e", "f")]:
        assert captured.captures(database, table)
    for database, table in [("a.b,c", "xy"), ("a", "b,c.x*"), ("dx`.", "tt"), ("d?`", "..t")]:
        assert not captured.captures(database, table)
    for wrong in ("`a.b", "`a`b.c", "a"):
        with pytest.raises(ConfigError, match="not a table pattern"):
            TableFilter((wrong,))

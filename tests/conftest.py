"""Real servers for the tests, one of each per session, started on first use.

A test with one of these fixtures has the marker `server` automatically. Only `BINLOGSYNC_TEST_SERVERS=0` skips these
tests.
"""

from __future__ import annotations

import gc
import os
import sys
import tempfile
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

from binlogsync import servers
from tests.databases import FreshDatabase, fresh_database
from tests.scheduling import FileScheduling, check_time, order_of

# A busy machine makes a slow example, not a wrong one; and the share of examples that a test discards is random.
settings.register_profile(
    "binlogsync",
    settings.default,
    deadline=None,
    suppress_health_check=[HealthCheck.filter_too_much, HealthCheck.too_slow],
)
settings.load_profile("binlogsync")

_SERVER_FIXTURES = {"mysql_server", "mariadb_server", "mariadb_10_server", "nats_server", "redis_server"}


def pytest_configure(config: pytest.Config) -> None:
    # Settings are read from the current folder: a `.env` of this clone must not reach the tests, nor its servers.
    if getattr(config.option, "numprocesses", None) and not hasattr(config, "workerinput"):
        return  # only the workers import tests
    folder = tempfile.TemporaryDirectory(prefix="binlogsync-tests-")
    config.add_cleanup(folder.cleanup)
    config.add_cleanup(lambda: os.chdir(config.invocation_params.dir))
    config.args = [str(config.invocation_params.dir / argument) for argument in config.args]
    os.chdir(folder.name)
    # What is collected stays for good; to search it for garbage again and again takes a tenth of the time.
    gc.disable()


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> FileScheduling | None:
    return FileScheduling(config, log) if config.getoption("dist") == "loadfile" else None


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=order_of)
    for item in items:
        if _SERVER_FIXTURES & set(getattr(item, "fixturenames", ())):
            item.add_marker("server")


def pytest_collection_finish() -> None:
    # Garbage collections then skip what the imported modules made. They are rare: tests create few reference cycles.
    gc.enable()
    gc.set_threshold(20_000, 20, 20)
    gc.collect()
    gc.freeze()


def pytest_unconfigure() -> None:
    # DuckDB's binding reports each of its objects that outlives the interpreter as a leak, and extension modules of
    # other libraries keep references to some of its modules. At this point no code uses DuckDB: release its modules.
    for name in [name for name in sys.modules if name.partition(".")[0] in ("duckdb", "_duckdb")]:
        vars(sys.modules.pop(name)).clear()


def pytest_runtest_setup(item: pytest.Item) -> None:
    check_time(item)
    if item.get_closest_marker("server") and os.environ.get("BINLOGSYNC_TEST_SERVERS") == "0":
        pytest.skip("requires real servers, and BINLOGSYNC_TEST_SERVERS=0")


@pytest.fixture(scope="session")
def mysql_server() -> Iterator[servers.MySQLServer]:
    """The MySQL of the test session; create separate databases, or use the fixture `mysql`."""
    with servers.mysql() as server:
        yield server


@pytest.fixture(scope="session")
def mariadb_server() -> Iterator[servers.MariaDBServer]:
    """The MariaDB of the test session; create separate databases, or use the fixture `mariadb`."""
    with servers.mariadb() as server:
        yield server


@pytest.fixture(scope="session")
def nats_server() -> Iterator[servers.NATSServer]:
    """The nats-server of the test session, with JetStream; use unique stream names."""
    with servers.nats() as server:
        yield server


@pytest.fixture(scope="session")
def redis_server() -> Iterator[servers.RedisServer]:
    """The Redis of the test session; use unique keys."""
    with servers.redis() as server:
        yield server


@pytest.fixture
def mysql(mysql_server: servers.MySQLServer) -> Iterator[FreshDatabase]:
    """An empty database on the shared MySQL."""
    with fresh_database(mysql_server) as database:
        yield database


@pytest.fixture
def mariadb(mariadb_server: servers.MariaDBServer) -> Iterator[FreshDatabase]:
    """An empty database on the shared MariaDB."""
    with fresh_database(mariadb_server) as database:
        yield database

"""Real servers for the tests, one of each per session, started when a test first asks.

A test that takes one of these fixtures carries the marker `server` without saying so. `BINLOGSYNC_TEST_SERVERS=0` skips
those tests; nothing else does.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator

import pytest
from hypothesis import settings

from binlogsync import embedded
from tests.databases import FreshDatabase, fresh_database

# A busy machine makes a slow example, not a wrong one.
settings.register_profile("binlogsync", settings.default, deadline=None)
settings.load_profile("binlogsync")

_SERVER_FIXTURES = {"mysql_server", "mariadb_server", "mariadb_10_server", "nats_server", "redis_server"}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    # The longest first: with several workers the short ones then fill the gaps at the end.
    items.sort(key=lambda item: item.path.parent.name not in ("e2e", "browser"))
    for item in items:
        if _SERVER_FIXTURES & set(getattr(item, "fixturenames", ())):
            item.add_marker("server")


def pytest_unconfigure() -> None:
    # DuckDB's binding reports each of its objects that outlives the interpreter as a leak, and extension modules of
    # other libraries keep some of its modules until then. Nothing uses DuckDB any more here: let go of its modules now.
    for name in [name for name in sys.modules if name.partition(".")[0] in ("duckdb", "_duckdb")]:
        vars(sys.modules.pop(name)).clear()


def pytest_runtest_setup(item: pytest.Item) -> None:
    if item.get_closest_marker("server") and os.environ.get("BINLOGSYNC_TEST_SERVERS") == "0":
        pytest.skip("needs real servers, and BINLOGSYNC_TEST_SERVERS=0")


@pytest.fixture(scope="session")
def mysql_server() -> Iterator[embedded.MySQLServer]:
    """MySQL that the whole session shares; make databases of your own, or take the fixture `mysql`."""
    with embedded.mysql() as server:
        yield server


@pytest.fixture(scope="session")
def mariadb_server() -> Iterator[embedded.MariaDBServer]:
    """MariaDB that the whole session shares; make databases of your own, or take the fixture `mariadb`."""
    with embedded.mariadb() as server:
        yield server


@pytest.fixture(scope="session")
def nats_server() -> Iterator[embedded.NATSServer]:
    """nats-server with JetStream that the whole session shares; use stream names of your own."""
    with embedded.nats() as server:
        yield server


@pytest.fixture(scope="session")
def redis_server() -> Iterator[embedded.RedisServer]:
    """Redis that the whole session shares; use keys of your own."""
    with embedded.redis() as server:
        yield server


@pytest.fixture
def mysql(mysql_server: embedded.MySQLServer) -> Iterator[FreshDatabase]:
    """An empty database on the shared MySQL."""
    with fresh_database(mysql_server) as database:
        yield database


@pytest.fixture
def mariadb(mariadb_server: embedded.MariaDBServer) -> Iterator[FreshDatabase]:
    """An empty database on the shared MariaDB."""
    with fresh_database(mariadb_server) as database:
        yield database

"""Separate servers: these tests write events to the binlog that stop a tail from the beginning of the binlog."""

from collections.abc import Iterator

import pytest

from binlogsync import servers
from binlogsync.errors import EmbeddedServerError
from binlogsync.servers.mariadb import find_installation
from tests.databases import FreshDatabase, fresh_database


@pytest.fixture(scope="session")
def mysql_server() -> Iterator[servers.MySQLServer]:
    """Overrides the server that all other tests share."""
    with servers.mysql() as server:
        yield server


@pytest.fixture(scope="session")
def mariadb_server() -> Iterator[servers.MariaDBServer]:
    """Overrides the server that all other tests share."""
    with servers.mariadb() as server:
        yield server


@pytest.fixture(scope="session")
def mariadb_10_server() -> Iterator[servers.MariaDBServer]:
    """The oldest supported MariaDB; its tests are skipped if Debian's archive no longer has it."""
    try:
        find_installation("10.11")
    except EmbeddedServerError as error:
        pytest.skip(str(error))
    with servers.mariadb(release="10.11") as server:
        yield server


@pytest.fixture
def mariadb_10(mariadb_10_server: servers.MariaDBServer) -> Iterator[FreshDatabase]:
    """An empty database on that server."""
    with fresh_database(mariadb_10_server) as database:
        yield database

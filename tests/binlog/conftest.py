"""Servers of their own: these tests leave events in the binlog on which a tail from its beginning has to stop."""

from collections.abc import Iterator

import pytest

from binlogsync import embedded
from binlogsync.embedded.mariadb import find_installation
from binlogsync.errors import EmbeddedServerError
from tests.databases import FreshDatabase, fresh_database


@pytest.fixture(scope="session")
def mysql_server() -> Iterator[embedded.MySQLServer]:
    """In place of the one that all other tests share."""
    with embedded.mysql() as server:
        yield server


@pytest.fixture(scope="session")
def mariadb_server() -> Iterator[embedded.MariaDBServer]:
    """In place of the one that all other tests share."""
    with embedded.mariadb() as server:
        yield server


@pytest.fixture(scope="session")
def mariadb_10_server() -> Iterator[embedded.MariaDBServer]:
    """The oldest MariaDB that is supported; tests on it are skipped where Debian's archive no longer has it."""
    try:
        find_installation("10.11")
    except EmbeddedServerError as error:
        pytest.skip(str(error))
    with embedded.mariadb(release="10.11") as server:
        yield server


@pytest.fixture
def mariadb_10(mariadb_10_server: embedded.MariaDBServer) -> Iterator[FreshDatabase]:
    """An empty database on it."""
    with fresh_database(mariadb_10_server) as database:
        yield database

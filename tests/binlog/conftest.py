"""Servers of their own: these tests leave events in the binlog on which a tail from its beginning has to stop."""

from collections.abc import Iterator

import pytest

from binlogsync import embedded


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

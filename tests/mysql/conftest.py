"""Servers of their own for tests that reset, purge or set up the server wrongly."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from binlogsync import servers

_SERVER_FIXTURES = {"server", "own_mysql", "plain_mysql", "own_mariadb"}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if Path(__file__).parent in item.path.parents and _SERVER_FIXTURES & set(getattr(item, "fixturenames", ())):
            item.add_marker("server")


@pytest.fixture(scope="session")
def own_mysql() -> Iterator[servers.MySQLServer]:
    """MySQL with GTIDs."""
    with servers.mysql() as server:
        yield server


@pytest.fixture(scope="session")
def plain_mysql() -> Iterator[servers.MySQLServer]:
    """MySQL without GTIDs."""
    with servers.mysql(options={"gtid_mode": "OFF", "enforce_gtid_consistency": "OFF"}) as server:
        yield server


@pytest.fixture(scope="session")
def own_mariadb() -> Iterator[servers.MariaDBServer]:
    """MariaDB."""
    with servers.mariadb() as server:
        yield server

"""What several files use: a tailed workload to backfill from, made once; a Dagster project of its own for a test."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from binlogsync import embedded
from binlogsync.embedded import NATSServer
from tests.databases import fresh_database
from tests.e2e.backfilling import Tailed, tail_workload
from tests.e2e.dagster_world import world as world


@pytest.fixture(scope="session")
def tailed(nats_server: NATSServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tailed]:
    """On a server of its own, whose binlogs hold nothing else, and may be purged at the very end."""
    with embedded.mysql() as server, fresh_database(server) as database:
        yield tail_workload(database, nats_server, tmp_path_factory.mktemp("backfill"))

"""What several files use: a tailed workload to backfill from, made once; a Dagster project of its own for a test."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from binlogsync import embedded
from binlogsync.embedded import NATSServer
from tests.databases import fresh_database
from tests.e2e.backfill_workload import TailedWorkload, tail_workload
from tests.e2e.dagster_project import project as project


@pytest.fixture(scope="session")
def tailed(nats_server: NATSServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[TailedWorkload]:
    """On a server of its own, whose binlogs hold nothing else, and may be purged at the very end."""
    with embedded.mysql() as server, fresh_database(server) as database:
        yield tail_workload(database, nats_server, tmp_path_factory.mktemp("backfill"))

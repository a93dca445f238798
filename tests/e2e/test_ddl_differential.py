"""Mirrors equal SELECT after random DDL in every form; ddl_differential.py runs more of it from the command line."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from binlogsync.servers import NATSServer
from tests.databases import FreshDatabase
from tests.e2e.ddl_differential import run_differential

STATEMENTS = int(os.environ.get("BINLOGSYNC_RANDOM_DDL_STATEMENTS", "48"))
SEED = int(os.environ.get("BINLOGSYNC_DDL_SEED", "1"))


@pytest.mark.slow
@pytest.mark.parametrize("server", ["mysql", "mariadb"])
def test_random_ddl(server: str, request: pytest.FixtureRequest, nats_server: NATSServer, tmp_path: Path) -> None:
    database: FreshDatabase = request.getfixturevalue(server)
    result = run_differential(database, nats_server.url, tmp_path, STATEMENTS, SEED)
    assert result.done >= STATEMENTS
    assert result.refused < result.done / 2

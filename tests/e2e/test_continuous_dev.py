"""`dagster dev` with continuous consumers: a reload of the code starts the next run, and Terminate stops them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.error import URLError
from urllib.request import Request, urlopen

import dagster as dg
import pytest

from binlogsync.errors import BinlogSyncError
from binlogsync.targets.duckdb.file import DuckFile
from dagster_binlogsync.keys import continuous_sensor_name
from dagster_binlogsync.tags import CONTINUOUS_TAG
from pipelines.demo import stack as demo
from pipelines.demo.workload import DemoWorkload, create
from tests.waiting import wait_until

pytestmark = [pytest.mark.server, pytest.mark.slow]

RELOAD = 'mutation { reloadRepositoryLocation(repositoryLocationName: "binlogsync") { __typename } }'
TERMINATE = 'mutation { terminateRun(runId: "%s") { __typename } }'


def ask(running: demo.Stack, query: str) -> Any:
    """The result of a GraphQL query; None while the web server does not answer."""
    body = json.dumps({"query": query}).encode()
    try:
        with urlopen(Request(f"{running.ui}/graphql", body, {"Content-Type": "application/json"}), timeout=60) as reply:
            return json.load(reply).get("data")
    except (URLError, OSError):
        return None


def count_orders(running: demo.Stack) -> int:
    """Rows of the mirror shop.orders; 0 while there is none."""
    try:
        with DuckFile(running.warehouse).transaction() as connection:
            name = "information_schema.tables WHERE table_schema = 'shop' AND table_name = 'orders'"
            if not connection.execute(f"SELECT 1 FROM {name}").fetchall():
                return 0
            return int(connection.execute("SELECT count(*) FROM shop.orders").fetchall()[0][0])
    except BinlogSyncError:
        return 0


@pytest.fixture
def running(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[demo.Stack]:
    """The demo with continuous consumers and a workload."""
    environment = vars(demo)["_environment"]
    continuous = {"BINLOGSYNC_CONSUME": "continuous", "BINLOGSYNC_FLUSH": "eager"}
    monkeypatch.setattr(demo, "_environment", lambda *found: environment(*found) | continuous)
    folder = tmp_path / "demo"
    with demo.start_servers(folder) as (mysql, nats):
        create(mysql)
        with demo.dagster(mysql, nats, folder, 0) as made, DemoWorkload(mysql, 5.0):
            yield made


@pytest.mark.exhaustive
def test_a_reload_starts_the_next_run_and_terminate_stops_them(running: demo.Stack) -> None:
    with dg.DagsterInstance.from_config(str(running.dagster_home)) as instance:

        def runs(*statuses: dg.DagsterRunStatus) -> list[str]:
            found = instance.get_runs(dg.RunsFilter(tags={CONTINUOUS_TAG: demo.SOURCE}, statuses=list(statuses)))
            return [run.run_id for run in found]

        def grows() -> None:
            before = wait_until(lambda: count_orders(running), 120, "the mirror")
            wait_until(lambda: count_orders(running) > before, 60, "more rows in the mirror")

        [first] = wait_until(lambda: runs(dg.DagsterRunStatus.STARTED), 120, "the continuous run")
        grows()
        assert runs(dg.DagsterRunStatus.FAILURE) == [], "it waits for the stream"
        assert wait_until(lambda: ask(running, RELOAD), 60, "the reload")
        wait_until(lambda: first in runs(dg.DagsterRunStatus.SUCCESS), 90, "the end of the run with the old code")
        [second] = wait_until(lambda: runs(dg.DagsterRunStatus.STARTED), 90, "the next run")
        grows()
        assert wait_until(lambda: ask(running, TERMINATE % second), 60, "the answer to Terminate")
        wait_until(lambda: second in runs(dg.DagsterRunStatus.CANCELED), 60, "the end of the terminated run")
        wait_until(lambda: "was stopped by a user" in last_tick(instance), 60, "a tick that holds")
        assert not runs(dg.DagsterRunStatus.STARTED)


def last_tick(instance: dg.DagsterInstance) -> str:
    """The skip reason of the last tick of the sensor."""
    for state in instance.all_instigator_state():
        if state.name == continuous_sensor_name(demo.SOURCE):
            ticks = instance.get_ticks(state.instigator_origin_id, state.selector_id, limit=1)
            return (ticks[0].skip_reason or "") if ticks else ""
    return ""

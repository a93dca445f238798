"""The job `snapshot_<source>` with a real NATS, and a stand-in for the tail."""

import secrets
import threading
from collections.abc import Iterator
from typing import Any

import dagster as dg
import pytest

from binlogsync.codec.subjects import durable_name, stream_name
from binlogsync.nats.client import NatsOptions
from binlogsync.nats.reader import StreamReader
from binlogsync.servers import NATSServer
from binlogsync.snapshot.requests import SnapshotRequests, SnapshotState
from binlogsync.snapshot.requests_nats import NatsSnapshotRequests
from dagster_binlogsync.keys import TableName, binlog_key
from dagster_binlogsync.operations.snapshots import SnapshotConfig, build_snapshot_job
from dagster_binlogsync.resource_keys import ResourceKeys
from dagster_binlogsync.resources.jetstream import JetStream
from tests.nats_commands import ask, delete_stream
from tests.snapshot.tail_stand_in import carry_out


class SnapshotJob:
    """The job of one source, its requests, and an instance of Dagster."""

    def __init__(self, url: str, source: str) -> None:
        self.url, self.source = url, source
        self.instance = dg.DagsterInstance.ephemeral()
        self.requests: SnapshotRequests = NatsSnapshotRequests(NatsOptions(url=url), source)

    def run(self, **config: Any) -> dg.ExecuteInProcessResult:
        job = build_snapshot_job(self.source, ResourceKeys())
        run_config = dg.RunConfig(ops={f"snapshot_{self.source}_now": SnapshotConfig(**config)})
        return job.execute_in_process(
            run_config=run_config,
            resources={"jetstream": JetStream(url=self.url)},
            instance=self.instance,
            raise_on_error=False,
        )

    def run_beside_a_tail(
        self, states: list[SnapshotState], error: str = "", **config: Any
    ) -> dg.ExecuteInProcessResult:
        tail = threading.Thread(target=carry_out, args=(self.requests, states, error))
        tail.start()
        result = self.run(**config)
        tail.join()
        return result

    def observed(self, key: dg.AssetKey) -> list[dict[str, object]]:
        """Metadata of the observations of an asset, the oldest first."""
        records = self.instance.fetch_observations(key, limit=50).records
        found = [record.asset_observation for record in reversed(records)]
        return [{name: value.value for name, value in each.metadata.items()} for each in found if each is not None]


@pytest.fixture
def job(nats_server: NATSServer) -> Iterator[SnapshotJob]:
    source = f"job{secrets.token_hex(4)}"
    ask(nats_server.url, lambda js: js.add_stream(name=stream_name(source), subjects=[f"cdc.{source}.>"]))
    made = SnapshotJob(nats_server.url, source)
    yield made
    made.requests.close()
    made.instance.dispose()
    delete_stream(nats_server.url, stream_name(source))


def test_a_run_follows_the_snapshot_and_reports_it(job: SnapshotJob) -> None:
    result = job.run_beside_a_tail(["running", "done"], tables=["shop.*"], rows_per_second=100)
    assert result.success
    [stored] = job.requests.list()
    assert (stored.request.patterns, stored.request.rows_per_s, stored.request.where) == (("shop.*",), 100.0, None)
    orders, items = (TableName(job.source, "shop", table).stream_key for table in ("orders", "items"))
    assert job.observed(orders)[-1] == {
        "snapshot": stored.request.id, "snapshot_state": "done", "published_rows": 30, "rows_expected_about": 30,
        "progress_percent": 100.0,
    }  # fmt: skip
    assert job.observed(items)[-1]["published_rows"] == 20
    assert job.observed(binlog_key(job.source))[-1] == {"snapshot": stored.request.id, "snapshot_state": "done"}


def test_a_run_for_one_consumer(job: SnapshotJob) -> None:
    assert not job.run(tables=["shop.*"], consumer="dagster").success
    assert job.requests.list() == []
    with StreamReader(NatsOptions(url=job.url), job.source) as reader:
        reader.ensure_durable(durable_name("dagster", "shop", "orders"), "shop", "orders", 1, client_id="dagster")
    assert job.run_beside_a_tail(["running", "done"], tables=["shop.*"], consumer="dagster").success
    [stored] = job.requests.list()
    assert stored.request.consumer == "dagster"
    assert job.observed(TableName(job.source, "shop", "orders").stream_key)[-1]["snapshot_consumer"] == "dagster"


def test_a_table_that_fails_fails_the_run(job: SnapshotJob) -> None:
    result = job.run_beside_a_tail(
        ["running", "failed"], "give it a primary key", tables=["shop.items"], where="id > 1"
    )
    assert not result.success
    [event] = [each for each in result.all_events if each.is_step_failure]
    assert "shop.items: failed" in str(event.step_failure_data.user_failure_data)
    assert "give it a primary key" in str(event.step_failure_data.user_failure_data)
    [stored] = job.requests.list()
    assert stored.request.where == "id > 1"


def test_a_snapshot_is_paused_resumed_and_cancelled(job: SnapshotJob) -> None:
    assert job.run(tables=["shop.orders"], wait=False).success
    states = []
    for action in ("pause", "resume", "status", "cancel"):
        assert job.run(action=action).success
        states.append(job.requests.list()[0].status.state)
    assert states == ["paused", "waiting", "waiting", "cancelled"]
    assert not job.run(action="pause").success
    assert job.run(action="status", snapshot=job.requests.list()[0].request.id).success


def test_wrong_tables_are_refused_before_anything_is_requested(job: SnapshotJob) -> None:
    for tables in ([], ["orders"]):
        assert not job.run(tables=tables).success
    assert job.requests.list() == []

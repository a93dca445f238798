"""The replay asset, its partitions and the jobs beside it, in Dagster without its UI, on a real workload."""

from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from binlogsync.bookmarks import Bookmark, find_bookmark
from binlogsync.targets.duckdb.file import META_SCHEMA
from dagster_binlogsync.consumers_asset import build_consumers_asset
from dagster_binlogsync.operations.bookmarks import build_bookmark_job
from dagster_binlogsync.operations.rewinds import build_rewind_job
from dagster_binlogsync.partitions import bookmark_partitions
from dagster_binlogsync.replay.replays import build_replay_asset, build_replay_job
from dagster_binlogsync.replay.source import ReplaySource
from dagster_binlogsync.resource_keys import ResourceKeys
from dagster_binlogsync.resources.audit import AuditLog
from dagster_binlogsync.resources.jetstream import JetStream
from dagster_binlogsync.resources.mysql import MySQLSource
from dagster_binlogsync.resources.positions import Positions, SQLitePositionsConfig
from dagster_binlogsync.resources.warehouse import Warehouse
from dagster_binlogsync.sensors.bookmarks import build_bookmark_sensor, sync_partitions
from dagster_binlogsync.tables import TableAsset, mirror, table_consumer
from dagster_binlogsync.tail.job import TailConfig
from tests.duck import mirror_rows, query
from tests.e2e.backfill_workload import AuditRow, CustomerRow, TailedWorkload, file_of_ids, note_ids
from tests.waiting import wait_until

pytestmark = [pytest.mark.server, pytest.mark.slow]

OPS = {"created": "c", "updated": "u", "deleted": "d"}


class ReplayProject:
    """A deployment with two consumers, and an instance of Dagster."""

    def __init__(self, tailed: TailedWorkload, folder: Path, instance: dg.DagsterInstance) -> None:
        self.tailed, self.folder, self.instance = tailed, folder, instance
        self.warehouse = file_of_ids(folder)
        source, database = tailed.source, tailed.database
        self.orders = mirror(f"{database}.orders", source=source)
        self.customers = table_consumer(CustomerRow, note_ids, table=f"{database}.customers", source=source)
        self.source = ReplaySource(source, ResourceKeys(), (self.orders, self.customers), TailConfig())
        config = tailed.config
        self.resources: Mapping[str, Any] = {
            "mysql": MySQLSource(host=config.host, port=config.port, user=config.user, password=config.password),
            "jetstream": JetStream(url=tailed.nats.url),
            "positions": Positions(backend=SQLitePositionsConfig(path=str(tailed.positions))),
            "warehouse": Warehouse(path=str(self.warehouse)),
            "audit": AuditLog(path=str(folder / "audit.duckdb")),
        }

    @property
    def partitions(self) -> str:
        return f"bookmarks_{self.tailed.source.replace('-', '_')}"

    def replay(self, table: TableAsset, keys: list[str], **config: Any) -> dg.ExecuteInProcessResult:
        """Run the partitions like a single-run backfill of the UI."""
        ends = {"dagster/asset_partition_range_start": keys[0], "dagster/asset_partition_range_end": keys[-1]}
        asset = build_replay_asset(self.source, table)
        ops = {asset.op.name: {"config": config}}
        return dg.materialize(
            [asset], instance=self.instance, resources=self.resources, tags=ends, run_config={"ops": ops}
        )

    def run(self, job: dg.JobDefinition, **config: Any) -> dg.ExecuteInProcessResult:
        name = job.nodes[0].name
        return job.execute_in_process(
            instance=self.instance, resources=self.resources, run_config={"ops": {name: {"config": config}}},
            raise_on_error=False,
        )  # fmt: skip


@pytest.fixture
def project(tailed: TailedWorkload, tmp_path: Path) -> Iterator[ReplayProject]:
    with dg.DagsterInstance.ephemeral(tempdir=str(tmp_path)) as instance:
        made = ReplayProject(tailed, tmp_path, instance)
        with sensor_context(made) as context:
            result = build_bookmark_sensor(tailed.source).evaluate_tick(context)
        for request in result.dynamic_partitions_requests or []:
            instance.add_dynamic_partitions(request.partitions_def_name, list(request.partition_keys))
        yield made


@contextmanager
def sensor_context(project: ReplayProject) -> Iterator[dg.SensorEvaluationContext]:
    positions = project.resources["positions"]
    with dg.build_sensor_context(instance=project.instance, resources={"positions": positions}) as context:
        yield context


def rows_between(rows: list[AuditRow], start: Bookmark, until: Bookmark | None) -> list[AuditRow]:
    ends = [(each.checkpoint.position.file_number, each.checkpoint.position.pos) for each in (start, until) if each]
    return [
        row for row in rows
        if ends[0] <= (row.file, row.txn_pos) and (until is None or (row.file, row.txn_pos) < ends[1])
    ]  # fmt: skip


def partition_metadata(result: dg.ExecuteInProcessResult, key: dg.AssetKey) -> dict[str | None, dict[str, Any]]:
    """The metadata of each partition's materialization."""
    found = {}
    for event in result.asset_materializations_for_node(result.all_node_events[0].node_name or ""):
        assert event.asset_key == key
        found[event.partition] = {name: value.value for name, value in event.metadata.items()}
    return found


def test_each_chosen_bookmark_shows_the_exact_counts_of_its_range(project: ReplayProject) -> None:
    bookmarks = list(project.tailed.store.bookmarks.load(project.tailed.source))
    assert project.instance.get_dynamic_partitions(project.partitions) == [each.key for each in bookmarks]
    rows = project.tailed.rows("orders")
    slices = list(pairwise(bookmarks))
    changed = [number for number, ends in enumerate(slices) if rows_between(rows, *ends)]
    slices = slices[changed[1] : changed[3] + 1]  # three with changes; how many lie between depends on the time
    chosen = [start for start, _ in slices]
    result = project.replay(project.orders, [each.key for each in chosen])
    assert result.success
    found = partition_metadata(result, project.orders.name.replay_key)
    for start, until in slices:
        expected = Counter(row.row[1] for row in rows_between(rows, start, until))
        counts = {op: found[start.key][name] for name, op in OPS.items()}
        assert counts == {op: expected[op] for op in OPS.values()}
        assert found[start.key]["run_changes"] == len(rows_between(rows, chosen[0], slices[-1][1]))
    assert query(project.warehouse, f"SELECT count(*) FROM {META_SCHEMA}.backfills WHERE finished_at IS NULL") == [(0,)]
    assert query(project.warehouse, "SELECT count(*) FROM information_schema.tables WHERE table_name = 'progress'")


def test_a_handler_is_called_again_up_to_the_head(project: ReplayProject) -> None:
    bookmarks, rows = project.tailed.store.bookmarks.load(project.tailed.source), project.tailed.rows("customers")
    start = next(each for each in bookmarks if 0 < len(rows_between(rows, each, None)) < len(rows))
    result = project.replay(project.customers, [start.key], until="head")
    expected = [row.row[0] for row in rows_between(rows, start, None)]
    assert [row[0] for row in query(project.warehouse, "SELECT id FROM ids ORDER BY rowid")] == expected
    found = partition_metadata(result, project.customers.name.replay_key)
    assert found[start.key]["changes"] == len(expected)


def test_a_range_is_replayed_from_the_launchpad(project: ReplayProject) -> None:
    rows = project.tailed.rows("visits")
    start = rows[len(rows) // 2]
    job, folder = build_replay_job(project.source), project.folder / "files"
    table = f"{project.tailed.database}.visits"
    asked = {"table": table, "from": start.committed.isoformat(), "to": f"parquet:{folder}"}
    assert project.run(job, **asked).success
    first = next(number for number, row in enumerate(rows) if row.committed >= start.committed)
    assert query(project.folder / "x.db", f"SELECT count(*) FROM '{folder}/*.parquet'") == [(len(rows) - first,)]

    refused = project.run(job, **{**asked, "to": "handler"})
    assert not refused.success
    (failed,) = refused.filter_events(lambda event: event.is_step_failure)
    assert "has no consumer" in str(failed.step_failure_data.error)
    assert not project.run(job, **{**asked, "to": "somewhere"}).success


def test_bookmarks_are_added_pinned_and_deleted(project: ReplayProject) -> None:
    job, store, source = build_bookmark_job(project.source), project.tailed.store, project.tailed.source
    row = project.tailed.rows("orders")[100]
    at = f"binlog.{row.file:06d}:{row.txn_pos}"
    assert project.run(job, action="add", bookmark="before v2", at=at).success
    added = find_bookmark(store.bookmarks.load(source), "before v2")
    assert added is not None
    assert (str(added.checkpoint.position), added.pinned, added.reason) == (at, True, "person")
    assert abs(added.at_us - row.committed.timestamp() * 1e6) < 2
    assert added.key.endswith("_before-v2")
    assert added.key in project.instance.get_dynamic_partitions(project.partitions)
    assert project.run(job, action="unpin", bookmark="before v2").success
    unpinned = find_bookmark(store.bookmarks.load(source), "before v2")
    assert unpinned is not None
    assert not unpinned.pinned
    assert project.run(job, action="list").success
    assert not project.run(job, action="pin", bookmark="nonsense").success
    assert not project.run(job, action="add", bookmark="inside", at=f"binlog.{row.file:06d}:{row.txn_pos + 3}").success
    assert project.run(job, action="delete", bookmark=added.key).success
    with sensor_context(project) as context:
        result = build_bookmark_sensor(source).evaluate_tick(context)
    (request,) = result.dynamic_partitions_requests or []
    assert isinstance(request, dg.DeleteDynamicPartitionsRequest)
    assert list(request.partition_keys) == [added.key]


def test_a_consumer_is_rewound_by_a_job(project: ReplayProject) -> None:
    consume = build_consumers_asset(project.source.name, ResourceKeys(), [project.customers])
    config = {"ops": {consume.op.name: {"config": {"idle_s": 0.5}}}}
    resources = {name: project.resources[name] for name in ("mysql", "jetstream", "warehouse")}

    def drain(changes: int) -> list[str]:
        """Runs until the handler has had so many changes; on a busy machine one may end before the first message."""

        def found() -> list[str]:
            assert dg.materialize([consume], instance=project.instance, resources=resources, run_config=config).success
            return [row[0] for row in query(project.warehouse, "SELECT id FROM ids ORDER BY rowid")]

        return wait_until(lambda: ids if len(ids := found()) >= changes else None, 60, f"{changes} changes") or []

    rows = project.tailed.rows("customers")
    drain(len(rows))
    place = rows[len(rows) // 2]
    again = [row.row[0] for row in rows if row.committed >= place.committed]
    table = str(project.customers.name)
    job = build_rewind_job(project.source)
    assert project.run(job, table=table, to=place.committed.isoformat(), reason="a bug").success
    expected = [row.row[0] for row in rows] + again
    assert drain(len(expected)) == expected
    said = query(project.folder / "audit.duckdb", "SELECT direction, reason, who FROM rewinds")
    assert [row[:2] for row in said] == [("back", "a bug")]
    assert said[0][2].startswith("run ")
    refused = project.run(job, table="no.table", to="head")
    assert not refused.success


def test_the_live_mirror_is_not_touched(project: ReplayProject) -> None:
    consume = build_consumers_asset(project.source.name, ResourceKeys(), [project.orders])
    config = {"ops": {consume.op.name: {"config": {"idle_s": 0.5}}}}
    resources = {name: project.resources[name] for name in ("mysql", "jetstream", "warehouse")}
    assert dg.materialize([consume], instance=project.instance, resources=resources, run_config=config).success
    before = mirror_rows(project.warehouse, project.tailed.database, "orders")
    progress = query(project.warehouse, f"FROM {META_SCHEMA}.progress")
    bookmarks, rows = project.tailed.store.bookmarks.load(project.tailed.source), project.tailed.rows("orders")
    start = next(each for each, until in pairwise(bookmarks) if rows_between(rows, each, until))
    assert project.replay(project.orders, [start.key]).success
    assert mirror_rows(project.warehouse, project.tailed.database, "orders") == before
    assert query(project.warehouse, f"FROM {META_SCHEMA}.progress") == progress


def test_a_manually_added_partition_is_not_removed() -> None:
    known = ["seq:77", "2026-11-23T16:00:00Z", "20261123T160000.000Z_binlog.000012@4567"]
    result = sync_partitions(bookmark_partitions("main"), known, [])
    assert isinstance(result, dg.SensorResult)
    (request,) = result.dynamic_partitions_requests or []
    assert list(request.partition_keys) == ["20261123T160000.000Z_binlog.000012@4567"]

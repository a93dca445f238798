"""The backlog sensor: requests one consumer run for the tables of a source that have work to do.

These are tables with unconsumed changes, mirrors that have no table yet, which the run loads, and tables without a
backlog whose progress is old: the stream has dropped, or may soon drop, messages after it. There is one sensor per
source, with one short connection and few requests in each tick. The run also consumes tables without
a backlog and lasts as long as changes arrive, so there are few, long runs. Tables of an active run are left out. One
that failed is requested again after a delay that doubles with each consecutive failure; the other tables do not wait
for it. If NATS is not reachable, the tick fails.
"""

import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import dagster as dg

from binlogsync.errors import WireError
from binlogsync.escaping import printable
from binlogsync.targets.progress import ProgressKey
from binlogsync.waiting import backoff_s
from dagster_binlogsync.consume.run_coordination import request_end
from dagster_binlogsync.consume.stored_progress import StoredProgress
from dagster_binlogsync.keys import consume_job_name
from dagster_binlogsync.resource_keys import ResourceKeys
from dagster_binlogsync.resources.jetstream import JetStream
from dagster_binlogsync.resources.warehouse import Warehouse
from dagster_binlogsync.run_assets import find_run_assets
from dagster_binlogsync.run_status import ENDED, UNFINISHED
from dagster_binlogsync.table_asset import TableAsset
from dagster_binlogsync.tags import CODE_TAG, CONSUMER_TAG, CONTINUOUS_TAG, END_TAG, FAILED_TAG

if TYPE_CHECKING:
    from binlogsync.nats.reader import StreamReader

RECENT_RUNS = 40
NATS_TIMEOUT_S = FILE_TIMEOUT_S = 5.0
MAX_NAMED = 3


@dataclass(frozen=True, slots=True)
class WatchedTable:
    """A table with a consumer.

    Attributes:
        database, table: MySQL names.
        key: asset key of the consumer.
        durable: name of the durable consumer in JetStream.
        run_tag: value of the tag binlogsync/consumer, "<source>.<database>.<table>".
        checks: the checks that the consumer run reports; other checks may be expensive and are not requested.
        progress: key of the consumer's progress.
        is_mirror: whether it is a mirror.
    """

    database: str
    table: str
    key: dg.AssetKey
    durable: str
    run_tag: str
    checks: tuple[dg.AssetCheckKey, ...] = ()
    progress: ProgressKey | None = None
    is_mirror: bool = False


@dataclass(frozen=True, slots=True)
class RetryRules:
    """Backoff after failed runs of a table, in seconds: first_s, doubled with each further failure, up to max_s."""

    first_s: float = 30.0
    max_s: float = 900.0

    def wait_s(self, failures: int, since_s: float) -> float:
        """Seconds left to wait, `since_s` after the last of `failures` consecutive failures."""
        return max(0.0, backoff_s(self.first_s, self.max_s, failures) - since_s) if failures else 0.0


def build_backlog_sensor(
    source: str,
    consumers: Sequence[TableAsset],
    *,
    running: bool = False,
    interval_s: int = 10,
    rules: RetryRules | None = None,
    keys: ResourceKeys | None = None,
    code: str = "",
    uncaptured: Collection[dg.AssetKey] = (),
) -> dg.SensorDefinition:
    """The sensor `consume_<source>` of the job of the same name, which consumes these tables.

    `running` is the default status of the sensor. `code` is the version of the handlers' code: runs with another
    version that started before these definitions were loaded are requested to end, and the next run has the new code.
    No run is requested to load a mirror of `uncaptured`, whose tables the tail does not capture.
    """
    keys, loaded_at = keys or ResourceKeys(), time.time()
    name, tables = consume_job_name(source), [watch_table(table) for table in consumers]
    stored = StoredProgress()

    @dg.sensor(
        name=name,
        job_name=name,
        minimum_interval_seconds=interval_s,
        default_status=dg.DefaultSensorStatus.RUNNING if running else dg.DefaultSensorStatus.STOPPED,
        description=f"Starts consumers for the tables of {source} that have unconsumed changes in JetStream, and loads "
        "mirrors that have no table yet.",
        required_resource_keys=keys.require(("jetstream", "warehouse")),
    )
    def _consume(context: dg.SensorEvaluationContext) -> dg.SensorResult | dg.SkipReason:
        resources = keys.find(context)
        stream: JetStream = resources.jetstream
        warehouse: Warehouse = resources.warehouse
        stop_outdated_runs(context.instance, [table.key for table in tables], code, loaded_at)
        request_end(context.instance, {CONTINUOUS_TAG: source}, "the setting `consume` is no longer continuous")
        busy = find_active_assets(context.instance, name, tables)
        free = [table for table in tables if table.key not in busy]
        if free:
            stored.read(warehouse.file(FILE_TIMEOUT_S))
        try:
            with stream.reader(source, patience_s=NATS_TIMEOUT_S) as reader:
                backlog = count_pending(reader, tables)
                due = stored.find_outdated([table.progress for table in free if table.progress], reader)
        except WireError as error:
            return dg.SkipReason(str(error))
        captured = [table for table in free if table.is_mirror and table.key not in uncaptured]
        due |= stored.find_unloaded([table.progress for table in captured if table.progress])
        return request_runs(context.instance, name, backlog, rules or RetryRules(), due=due)

    return _consume


def watch_table(table: TableAsset) -> WatchedTable:
    """The table as the sensor needs it."""
    name = table.name
    checks = tuple(spec.key for spec in table.check_specs)
    progress = table.consumer.progress_key
    return WatchedTable(
        name.database, name.table, table.key, table.durable, name.run_tag, checks, progress, table.is_mirror
    )


def stop_outdated_runs(
    instance: dg.DagsterInstance, keys: Collection[dg.AssetKey], code: str, loaded_at: float
) -> Sequence[str]:
    """Request runs of these assets with older code to end. Returns their ids."""
    requested = []
    for record in instance.get_run_records(dg.RunsFilter(statuses=[dg.DagsterRunStatus.STARTED])):
        run = record.dagster_run
        is_ours = CODE_TAG in run.tags and not find_run_assets(instance, run).isdisjoint(keys)
        is_older = (record.start_time or record.create_timestamp.timestamp()) < loaded_at
        if is_ours and is_older and run.tags[CODE_TAG] != code and END_TAG not in run.tags:
            instance.add_run_tags(run.run_id, {END_TAG: "the definitions were reloaded with new code"})
            requested.append(run.run_id)
    return requested


def count_pending(reader: "StreamReader", tables: Iterable[WatchedTable]) -> Mapping[WatchedTable, int]:
    """Number of unconsumed messages of each table. If it was never consumed: all its messages in the stream."""
    stored, pending = reader.tables(), reader.pending_counts()
    return {table: pending.get(table.durable, stored.get((table.database, table.table), 0)) for table in tables}


def request_runs(
    instance: dg.DagsterInstance,
    job_name: str,
    backlog: Mapping[WatchedTable, int],
    rules: RetryRules,
    clock: Callable[[], float] = time.time,
    *,
    due: Collection[ProgressKey] = (),
) -> dg.SensorResult | dg.SkipReason:
    """Request one run for all tables that no run consumes and that are not in backoff, if one of them has work to do.

    `due` are consumers that need a run without a backlog. Otherwise the skip reason counts the tables by state, and
    names a few of the blocked ones.
    """
    busy = find_active_assets(instance, job_name, backlog)
    ended = instance.get_run_records(dg.RunsFilter(job_name=job_name, statuses=ENDED), limit=RECENT_RUNS)
    free: list[WatchedTable] = []
    blocked: list[str] = []
    for table, waiting in backlog.items():
        if table.key in busy:
            continue
        if (wait := _wait_s(ended, table, rules, clock())) > 0:
            name = printable(f"{table.database}.{table.table}")
            blocked.append(f"{name}: blocked with {waiting} message(s) waiting, next attempt in {wait:.0f} s")
        else:
            free.append(table)
    if not any(backlog[table] or table.progress in due for table in free):
        active = sum(table.key in busy for table in backlog)
        return dg.SkipReason(_summary(active, len(free), blocked))
    # No table is in two runs, so the first table identifies the run.
    tags = {CONSUMER_TAG: free[0].run_tag, "dagster/max_retries": "0"}
    checks = [check for table in free for check in table.checks]
    keys = [table.key for table in free]
    return dg.SensorResult(run_requests=[dg.RunRequest(asset_selection=keys, asset_check_keys=checks, tags=tags)])


def _summary(active: int, quiet: int, blocked: Sequence[str]) -> str:
    """The skip reason, in one line whose length does not grow with the number of tables."""
    parts = [f"{active} table(s) being consumed"] if active else []
    parts += [f"{quiet} table(s) without a backlog"] if quiet else []
    parts += blocked[:MAX_NAMED]
    parts += [f"{len(blocked) - MAX_NAMED} more blocked"] if len(blocked) > MAX_NAMED else []
    return "; ".join(parts) or "there are no consumers"


def find_active_assets(instance: dg.DagsterInstance, job_name: str, tables: Iterable[WatchedTable]) -> set[dg.AssetKey]:
    """Assets of all active runs, including runs launched manually."""
    busy: set[dg.AssetKey] = set()
    for run in instance.get_runs(dg.RunsFilter(statuses=UNFINISHED)):
        if run.asset_selection:
            busy |= run.asset_selection
        elif run.job_name == job_name:
            busy |= {table.key for table in tables}
        elif CODE_TAG in run.tags:
            busy |= find_run_assets(instance, run)
    return busy


def _wait_s(ended: Sequence[dg.RunRecord], table: WatchedTable, rules: RetryRules, now: float) -> float:
    """Seconds until a table whose last runs failed is requested again. 0 if the last run succeeded."""
    failed: list[dg.RunRecord] = []
    for record in ended:
        run = record.dagster_run
        if run.asset_selection is not None and table.key not in run.asset_selection:
            continue
        if END_TAG in run.tags:
            break  # the run had older code; the new code may succeed
        blocked = run.tags.get(FAILED_TAG)
        if run.status != dg.DagsterRunStatus.FAILURE or (
            blocked is not None and table.key.to_user_string() not in blocked.split()
        ):
            break
        failed.append(record)
    if not failed:
        return 0.0
    return rules.wait_s(len(failed), now - (failed[0].end_time or failed[0].create_timestamp.timestamp()))

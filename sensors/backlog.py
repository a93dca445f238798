"""Sees which tables have changes that their consumer has not handled, and asks for a run of each.

One sensor for all tables of a source, one short connection a tick, two questions a table at most. A table whose
consumer is at work is left alone: a run stays while changes come, so few and long runs do the work. A consumer that
failed is asked for again after a while that doubles with each failure in a row. A broker that cannot be reached fails
the tick.
"""

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import dagster as dg

from binlogsync.errors import WireError
from binlogsync.stream import StreamReader
from resources.jetstream import JetStream

CONSUMER_TAG = "binlogsync/consumer"
RUNS_LOOKED_AT = 12
PATIENCE_S = 5.0

UNFINISHED = [
    dg.DagsterRunStatus.QUEUED,
    dg.DagsterRunStatus.NOT_STARTED,
    dg.DagsterRunStatus.STARTING,
    dg.DagsterRunStatus.STARTED,
    dg.DagsterRunStatus.CANCELING,
]


@dataclass(frozen=True, slots=True)
class WatchedTable:
    """A table with a consumer.

    Attributes:
        database, table: real names.
        key: of the consumer's asset.
        durable: in JetStream.
        run_tag: value of the tag binlogsync/consumer, "<source>.<database>.<table>".
        checks: of the asset, those of the consumer's own step; others may be costly and are not asked for.
    """

    database: str
    table: str
    key: dg.AssetKey
    durable: str
    run_tag: str
    checks: tuple[dg.AssetCheckKey, ...] = ()


@dataclass(frozen=True, slots=True)
class RetryRules:
    """Back-off after failed runs of a consumer, in seconds: first_s, doubled for each further failure, up to max_s."""

    first_s: float = 30.0
    max_s: float = 900.0

    def wait_s(self, failures: int, since_s: float) -> float:
        """Seconds still to wait, `since_s` after the last of so many failures in a row."""
        return max(0.0, min(self.max_s, self.first_s * 2 ** min(failures - 1, 30)) - since_s) if failures else 0.0


def backlog_sensor(
    source: str,
    job_name: str,
    tables: Sequence[WatchedTable],
    *,
    running: bool = False,
    interval_s: int = 10,
    rules: RetryRules | None = None,
    stream_key: str = "jetstream",
) -> dg.SensorDefinition:
    """The sensor `consume_<source>` of the asset job that holds all these tables.

    `running` says whether it is on before anybody switched it on.
    """

    @dg.sensor(
        name=f"consume_{source.replace('-', '_')}",
        job_name=job_name,
        minimum_interval_seconds=interval_s,
        default_status=dg.DefaultSensorStatus.RUNNING if running else dg.DefaultSensorStatus.STOPPED,
        description=f"Materialises the tables of {source} that have changes waiting in JetStream.",
        required_resource_keys={stream_key},
    )
    def _consume(context: dg.SensorEvaluationContext) -> dg.SensorResult | dg.SkipReason:
        stream: JetStream = getattr(context.resources, stream_key)
        try:
            with stream.reader(source, patience_s=PATIENCE_S) as reader:
                backlog = pending(reader, tables)
        except WireError as error:
            return dg.SkipReason(str(error))
        return requests(context.instance, tables, backlog, rules or RetryRules())

    return _consume


def pending(reader: StreamReader, tables: Iterable[WatchedTable]) -> Mapping[WatchedTable, int]:
    """Messages that wait for each table; for one that was never consumed, all that the stream holds of it."""
    held = reader.tables()
    backlog = {}
    for table in tables:
        durable = reader.pending(table.durable)
        if durable is not None:
            backlog[table] = durable.num_pending + durable.num_ack_pending
        else:
            backlog[table] = held.get((table.database, table.table), 0)
    return backlog


def requests(
    instance: dg.DagsterInstance,
    tables: Sequence[WatchedTable],
    backlog: Mapping[WatchedTable, int],
    rules: RetryRules,
    clock: Callable[[], float] = time.time,
) -> dg.SensorResult | dg.SkipReason:
    """A run for each table with a backlog that is neither at work nor backing off; else a sentence on each."""
    busy_tags, busy_keys = _at_work(instance)
    asked: list[dg.RunRequest] = []
    said: list[str] = []
    for table in tables:
        name, waiting = f"{table.database}.{table.table}", backlog[table]
        if table.run_tag in busy_tags or table.key in busy_keys:
            said.append(f"{name}: its consumer is at work")
        elif not waiting:
            said.append(f"{name}: nothing waits")
        elif (wait := _wait_s(instance, table, rules, clock())) > 0:
            said.append(f"{name}: {waiting} message(s) wait; its last run failed, next try in {wait:.0f} s")
        else:
            tags = {CONSUMER_TAG: table.run_tag, "dagster/max_retries": "0"}
            asked.append(dg.RunRequest(asset_selection=[table.key], asset_check_keys=[*table.checks], tags=tags))
    return dg.SensorResult(run_requests=asked) if asked else dg.SkipReason("; ".join(said) or "no table has a consumer")


def _at_work(instance: dg.DagsterInstance) -> tuple[set[str], set[dg.AssetKey]]:
    """Consumer tags and asset keys of the runs that have not ended: a person may have launched one without the tag."""
    runs = instance.get_runs(dg.RunsFilter(statuses=UNFINISHED))
    tags = {run.tags[CONSUMER_TAG] for run in runs if CONSUMER_TAG in run.tags}
    keys = {key for run in runs for key in (run.asset_selection or ())}
    return tags, keys


def _wait_s(instance: dg.DagsterInstance, table: WatchedTable, rules: RetryRules, now: float) -> float:
    """Seconds until a consumer whose last runs failed is tried again."""
    records = instance.get_run_records(dg.RunsFilter(tags={CONSUMER_TAG: table.run_tag}), limit=RUNS_LOOKED_AT)
    failures = 0
    for record in records:
        if record.dagster_run.status != dg.DagsterRunStatus.FAILURE:
            break
        failures += 1
    if not failures:
        return 0.0
    return rules.wait_s(failures, now - (records[0].end_time or records[0].create_timestamp.timestamp()))

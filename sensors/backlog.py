"""Sees which tables have changes that their consumer has not handled, and asks for one run of all that may go on.

One sensor for all tables of a source, one short connection a tick, two questions a table at most. The run watches the
tables without a backlog as well, and stays while changes come, so few and long runs do the work. A table that a run is
at work on is left alone. One that failed is asked for again after a while that doubles with each failure in a row; the
others do not wait for it. A broker that cannot be reached fails the tick.
"""

import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

import dagster as dg

from binlogsync.errors import WireError
from binlogsync.escaping import printable
from binlogsync.stream.reader import StreamReader
from resources.jetstream import JetStream

CONSUMER_TAG = "binlogsync/consumer"
FAILED_TAG = "binlogsync/failed"
"""Tag of a run that failed: the keys of the assets that were held up, joined by blanks. The others were done."""
CODE_TAG = "binlogsync/code"
"""Tag of a consumer run: which code it runs."""
END_TAG = "binlogsync/end"
"""Tag by which a run is asked to end, with the reason; it looks every few seconds."""
RUNS_LOOKED_AT = 40
PATIENCE_S = 5.0
NAMED = 3

UNFINISHED = [
    dg.DagsterRunStatus.QUEUED,
    dg.DagsterRunStatus.NOT_STARTED,
    dg.DagsterRunStatus.STARTING,
    dg.DagsterRunStatus.STARTED,
    dg.DagsterRunStatus.CANCELING,
]
ENDED = [dg.DagsterRunStatus.SUCCESS, dg.DagsterRunStatus.FAILURE, dg.DagsterRunStatus.CANCELED]


@dataclass(frozen=True, slots=True)
class WatchedTable:
    """A table with a consumer.

    Attributes:
        database, table: real names.
        key: of the consumer's asset.
        durable: in JetStream.
        run_tag: what names it in the tag binlogsync/consumer, "<source>.<database>.<table>".
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
    code: str = "",
) -> dg.SensorDefinition:
    """The sensor `consume_<source>` of the asset job that holds all these tables.

    `running` says whether it is on before anybody switched it on. `code` names the code of the handlers: a run that
    began before these definitions were loaded, with other code, is asked to end, so that the next has the new one.
    """
    loaded_at = time.time()

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
        stop_outdated_runs(context.instance, [table.key for table in tables], code, loaded_at)
        try:
            with stream.reader(source, patience_s=PATIENCE_S) as reader:
                backlog = count_pending(reader, tables)
        except WireError as error:
            return dg.SkipReason(str(error))
        return request_runs(context.instance, job_name, backlog, rules or RetryRules())

    return _consume


def stop_outdated_runs(
    instance: dg.DagsterInstance, keys: Collection[dg.AssetKey], code: str, loaded_at: float
) -> Sequence[str]:
    """Ask the runs that have these assets in older code to end; their ids."""
    asked = []
    for record in instance.get_run_records(dg.RunsFilter(statuses=[dg.DagsterRunStatus.STARTED])):
        run = record.dagster_run
        is_ours = CODE_TAG in run.tags and (run.asset_selection is None or not run.asset_selection.isdisjoint(keys))
        is_older = (record.start_time or record.create_timestamp.timestamp()) < loaded_at
        if is_ours and is_older and run.tags[CODE_TAG] != code and END_TAG not in run.tags:
            instance.add_run_tags(run.run_id, {END_TAG: "the definitions were reloaded with other code"})
            asked.append(run.run_id)
    return asked


def count_pending(reader: StreamReader, tables: Iterable[WatchedTable]) -> Mapping[WatchedTable, int]:
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


def request_runs(
    instance: dg.DagsterInstance,
    job_name: str,
    backlog: Mapping[WatchedTable, int],
    rules: RetryRules,
    clock: Callable[[], float] = time.time,
) -> dg.SensorResult | dg.SkipReason:
    """One run of the job, when there is a backlog, for all tables that are neither at work nor backing off.

    Else how many are at work or have nothing waiting, and the names of a few that were held up.
    """
    busy = _at_work(instance, job_name, backlog)
    ended = instance.get_run_records(dg.RunsFilter(job_name=job_name, statuses=ENDED), limit=RUNS_LOOKED_AT)
    free: list[WatchedTable] = []
    held_up: list[str] = []
    for table, waiting in backlog.items():
        if table.key in busy:
            continue
        if (wait := _wait_s(ended, table, rules, clock())) > 0:
            name = printable(f"{table.database}.{table.table}")
            held_up.append(f"{name}: {waiting} message(s) wait; it was held up, next try in {wait:.0f} s")
        else:
            free.append(table)
    if not any(backlog[table] for table in free):
        at_work = sum(table.key in busy for table in backlog)
        return dg.SkipReason(_summary(at_work, len(free), held_up))
    # The tables of two runs are never the same, so neither is the first of them.
    tags = {CONSUMER_TAG: free[0].run_tag, "dagster/max_retries": "0"}
    checks = [check for table in free for check in table.checks]
    keys = [table.key for table in free]
    return dg.SensorResult(run_requests=[dg.RunRequest(asset_selection=keys, asset_check_keys=checks, tags=tags)])


def _summary(at_work: int, quiet: int, held_up: Sequence[str]) -> str:
    """Why nothing is asked for, in a line whose length does not grow with the number of tables."""
    parts = [f"{at_work} table(s) at work"] if at_work else []
    parts += [f"{quiet} table(s) with nothing waiting"] if quiet else []
    parts += held_up[:NAMED]
    parts += [f"{len(held_up) - NAMED} more held up"] if len(held_up) > NAMED else []
    return "; ".join(parts) or "no table has a consumer"


def _at_work(instance: dg.DagsterInstance, job_name: str, tables: Iterable[WatchedTable]) -> set[dg.AssetKey]:
    """Assets of the runs that have not ended, those that a person launched too."""
    busy: set[dg.AssetKey] = set()
    for run in instance.get_runs(dg.RunsFilter(statuses=UNFINISHED)):
        if run.asset_selection is not None:
            busy |= run.asset_selection
        elif run.job_name == job_name:
            busy |= {table.key for table in tables}
    return busy


def _wait_s(ended: Sequence[dg.RunRecord], table: WatchedTable, rules: RetryRules, now: float) -> float:
    """Seconds until a table that held up its last runs is tried again."""
    failed: list[dg.RunRecord] = []
    for record in ended:
        run = record.dagster_run
        if run.asset_selection is not None and table.key not in run.asset_selection:
            continue
        if END_TAG in run.tags:
            break  # other code is there now, which may do better
        held_up = run.tags.get(FAILED_TAG)
        if run.status != dg.DagsterRunStatus.FAILURE or (
            held_up is not None and table.key.to_user_string() not in held_up.split()
        ):
            break
        failed.append(record)
    if not failed:
        return 0.0
    return rules.wait_s(len(failed), now - (failed[0].end_time or failed[0].create_timestamp.timestamp()))

"""One run of one table's consumer: open, let `binlogsync.consume` work in rounds, and say what was done.

The first round is short and the others end after `report_s`, so that a run of an hour shows what it did soon, and then
every minute. What the library raises
becomes a Failure that names the change and says what to do; nothing is retried by Dagster, the handler was tried
already.
"""

import time
import traceback
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import dagster as dg
from pydantic import Field

from binlogsync.consume import Consumed, ConsumeOptions, consume
from binlogsync.errors import BinlogSyncError, ConsumeError, HandlerError, ModelError, SinkError, WireError
from binlogsync.progress import Progress
from binlogsync.stream import StreamReader
from binlogsync.subjects import durable_name
from binlogsync.targets import Target
from pipelines.keys import TableName
from pipelines.preview import count_rows, first_rows
from pipelines.stopping import StopFlag, stop_on_signals
from resources.warehouse import Warehouse

SMALL_BACKLOG = 1000
FIRST_ROUND_S = 5.0
OPS = {"c": "created", "u": "updated", "d": "deleted", "r": "read_by_snapshot", "t": "truncated"}
ADVICE: tuple[tuple[type[BinlogSyncError], str], ...] = (
    (ModelError, "Mend the model as the message says, and reload. Nothing was skipped: the next run goes on there."),
    (HandlerError, "Mend the handler or what it depends on. The next run goes on with this very change."),
    (SinkError, "Check that NATS is up and that the credentials are right; the sensor asks for another run."),
    (WireError, "Start the tail of this source first; it makes the stream."),
)


class ConsumeConfig(dg.Config):
    """How long a run stays, and what it shows."""

    idle_s: float = Field(default=60.0, ge=0, description="The run ends when no change has come for this many seconds.")
    max_s: float = Field(
        default=3600.0, gt=0, description="The run ends after this many seconds; the sensor asks for the next."
    )
    report_s: float = Field(default=60.0, gt=0, description="Seconds between two materializations of a long run.")
    max_changes: int = Field(default=50_000, ge=1, description="Changes in one transaction, about.")
    preview_rows: int = Field(default=5, ge=0, description="Rows of the table that the page shows; 0 shows none.")


@dataclass(frozen=True, slots=True)
class Consumption:
    """What is consumed, and into what.

    Attributes:
        name: of the table.
        client_id: whose progress.
        target: makes the target, given the path of the warehouse.
        shows: (schema, table) in the warehouse to count and preview; None for nothing.
    """

    name: TableName
    client_id: str
    target: Callable[[str], Target]
    shows: tuple[str, str] | None

    @property
    def table(self) -> tuple[str, str]:
        """(database, table)."""
        return self.name.database, self.name.table

    @property
    def durable(self) -> str:
        """Its name in JetStream."""
        return durable_name(self.client_id, *self.table)


def run_consumer(
    context: dg.AssetExecutionContext, config: ConsumeConfig, consumption: Consumption
) -> dg.MaterializeResult[Any]:
    """Drain the table, and stay while changes come; the result of the run, with its checks."""
    warehouse: Warehouse = context.resources.warehouse
    try:
        with stop_on_signals() as stop, context.resources.jetstream.reader(consumption.name.source) as reader:
            total = _rounds(context, config, consumption, reader, stop)
            waiting = reader.pending(consumption.durable)
    except BinlogSyncError as error:
        raise failure(error, consumption.name) from error
    if stop.reason is not None:
        context.log.info(f"stopped ({stop.reason}) after {total.changes} change(s), at {total.last}")
        if _is_over(context):
            raise dg.DagsterExecutionInterruptedError
    left = waiting.num_pending + waiting.num_ack_pending if waiting is not None else 0
    key = consumption.name.consumer_key
    return dg.MaterializeResult(
        asset_key=key,
        metadata=metadata(total, config, consumption, warehouse),
        check_results=[_backlog(key, left), _no_gap(key, total.gap)],
    )


def _is_over(context: dg.AssetExecutionContext) -> bool:
    """True when a person stopped the run, or it was ended while no signal could reach it.

    A signal alone (Ctrl-C, a shutdown) ends a run early and with success: progress is stored with the rows.
    """
    run = context.instance.get_run_by_id(context.run.run_id)
    return run is None or run.status != dg.DagsterRunStatus.STARTED


class Total:
    """The rounds of a run, added up."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self.seconds = 0.0
        self.batches = self.skipped = 0
        self.first: Progress | None = None
        self.last: Progress | None = None
        self.lag_s: float | None = None
        self.gap: tuple[int, int] | None = None

    @property
    def changes(self) -> int:
        """Changes done."""
        return self.counts.total()

    def add(self, done: Consumed) -> None:
        """One round more."""
        self.counts.update(done.counts)
        self.seconds += done.seconds
        self.batches += done.batches
        self.skipped += done.skipped
        self.first = self.first or done.first
        self.last = done.last or self.last or done.progress
        self.lag_s = done.lag_s if done.lag_s is not None else self.lag_s
        self.gap = self.gap or done.gap


def _rounds(
    context: dg.AssetExecutionContext,
    config: ConsumeConfig,
    consumption: Consumption,
    reader: StreamReader,
    stop: StopFlag,
) -> Total:
    """Consume until nothing comes for idle_s, max_s is over or a signal comes; a materialization after each round."""
    warehouse: Warehouse = context.resources.warehouse
    target = consumption.target(warehouse.path)
    total, ends_at = Total(), time.monotonic() + config.max_s
    round_s = min(FIRST_ROUND_S, config.report_s)
    while not stop.is_set() and (left_s := ends_at - time.monotonic()) > 0:
        options = ConsumeOptions(
            client_id=consumption.client_id,
            max_changes=config.max_changes,
            idle_s=config.idle_s,
            max_s=min(left_s, round_s),
        )
        # Longer than idle_s, or no round would ever find that nothing comes.
        round_s = max(config.report_s, config.idle_s + 1.0)
        done = consume(reader, consumption.table, target, options, stop)
        total.add(done)
        if done.is_drained:
            break
        if _is_over(context):
            stop.ask("the run was ended")
        if done.changes and not stop.is_set() and time.monotonic() < ends_at:
            part = Total()
            part.add(done)
            shown = metadata(part, config, consumption, warehouse)
            context.log_event(dg.AssetMaterialization(consumption.name.consumer_key, metadata=shown))
    return total


def metadata(
    total: Total, config: ConsumeConfig, consumption: Consumption, warehouse: Warehouse
) -> Mapping[str, dg.MetadataValue]:
    """What the asset page shows of a run or a round."""
    # Snapshots and truncations are rare: shown when there was one, so that no plot of noughts stands in the way.
    counts = {op: total.counts.get(op, 0) for op in OPS}
    shown: dict[str, dg.MetadataValue] = {
        "changes": dg.MetadataValue.int(total.changes),
        **{OPS[op]: dg.MetadataValue.int(count) for op, count in counts.items() if count or op in "cud"},
        "changes_per_s": dg.MetadataValue.float(round(total.changes / max(total.seconds, 1e-3), 1)),
        "seconds": dg.MetadataValue.float(round(total.seconds, 1)),
        "transactions": dg.MetadataValue.int(total.batches),
        "done_before": dg.MetadataValue.int(total.skipped),
    }
    if total.lag_s is not None:
        shown["lag_s"] = dg.MetadataValue.float(round(total.lag_s, 3))
    if total.first is not None:
        shown["first_position"] = dg.MetadataValue.text(f"{total.first.file}:{total.first.pos} row {total.first.row}")
    if total.last is not None:
        shown["last_position"] = dg.MetadataValue.text(f"{total.last.file}:{total.last.pos} row {total.last.row}")
        shown["stream_sequence"] = dg.MetadataValue.int(total.last.sequence)
        shown["changes_ever"] = dg.MetadataValue.int(total.last.changes)
    if consumption.shows is not None:
        shown |= _table(warehouse, consumption.shows, config.preview_rows)
    return shown


def _table(warehouse: Warehouse, table: tuple[str, str], limit: int) -> dict[str, dg.MetadataValue]:
    """Row count and first rows; why not, when the file is held by somebody: the changes themselves are stored."""
    try:
        rows = count_rows(warehouse.file(), *table)
        if rows is None:
            return {}
        shown: dict[str, dg.MetadataValue] = {"dagster/row_count": dg.MetadataValue.int(rows)}
        if rows and limit:
            shown["preview"] = dg.MetadataValue.md(first_rows(warehouse.file(), *table, limit))
    except ConsumeError as error:
        return {"preview": dg.MetadataValue.text(f"not shown: {error}")}
    return shown


def failure(error: BinlogSyncError, name: TableName) -> dg.Failure:
    """The Failure that the run page shows: which change, where, what was raised and what to do."""
    shown: dict[str, dg.MetadataValue] = {
        "error": dg.MetadataValue.text(type(error).__name__),
        "table": dg.MetadataValue.text(str(name)),
        "what_to_do": dg.MetadataValue.text(
            next((text for kind, text in ADVICE if isinstance(error, kind)), "See the message.")
        ),
    }
    if isinstance(error, HandlerError):
        shown["change_id"] = dg.MetadataValue.text(error.change_id)
        shown["position"] = dg.MetadataValue.text(error.position)
        shown["tries"] = dg.MetadataValue.int(error.tries)
    if error.__cause__ is not None:
        lines = "".join(traceback.format_exception(error.__cause__))
        shown["traceback"] = dg.MetadataValue.md(f"```\n{lines}```")
    return dg.Failure(description=f"{type(error).__name__}: {error}", metadata=shown, allow_retries=False)


def _backlog(key: dg.AssetKey, waiting: int) -> dg.AssetCheckResult:
    return dg.AssetCheckResult(
        passed=waiting <= SMALL_BACKLOG,
        check_name="backlog",
        asset_key=key,
        severity=dg.AssetCheckSeverity.WARN,
        description=f"{waiting} message(s) wait in the stream.",
        metadata={"waiting": waiting},
    )


def _no_gap(key: dg.AssetKey, gap: tuple[int, int] | None) -> dg.AssetCheckResult:
    said = "Everything that the stream held was consumed in order."
    if gap is not None:
        said = f"The stream dropped sequences {gap[0]} to {gap[1]} (its retention) unseen; fill this table anew."
    return dg.AssetCheckResult(passed=gap is None, check_name="no_gap", asset_key=key, description=said)

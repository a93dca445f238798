"""What the pages in Dagster show of a consumer: what it did, and what held it up."""

import traceback
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

import dagster as dg

from binlogsync.consume.engine import ConsumeResult
from binlogsync.consume.progress import ConsumerProgress, DuckProgress, ProgressKey
from binlogsync.consume.skips import Skip, skips_of
from binlogsync.errors import BinlogSyncError, ConsumeError, HandlerError, ModelError, SinkError, WireError
from binlogsync.escaping import fenced, printable
from pipelines.keys import TableName
from pipelines.preview import count_rows, first_rows
from resources.warehouse import Warehouse

OPS = {"c": "created", "u": "updated", "d": "deleted", "r": "read_by_snapshot", "t": "truncated"}
ADVICE: tuple[tuple[type[BinlogSyncError], str], ...] = (
    (ModelError, "Mend the model as the message says, and reload. Nothing was skipped: the next run goes on there."),
    (
        HandlerError,
        "Mend the handler or what it depends on; the next run goes on with this very change. Where that cannot be, "
        "skip this one change, with a reason: the job skip_change, or binlogsync skip.",
    ),
    (SinkError, "Check that NATS is up and that the credentials are right; the sensor asks for another run."),
    (WireError, "Start the tail of this source first; it makes the stream."),
)


@dataclass(frozen=True, slots=True)
class TablePreview:
    """(schema, table) in the warehouse to count, and how many of its first rows are shown."""

    name: tuple[str, str]
    preview_rows: int


class ConsumerTotals:
    """The rounds of a run, added up."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self.seconds = 0.0
        self.batches = self.skipped = 0
        self.first: ConsumerProgress | None = None
        self.last: ConsumerProgress | None = None
        self.lag_s: float | None = None

    @property
    def changes(self) -> int:
        """Changes done."""
        return self.counts.total()

    def add(self, done: ConsumeResult) -> None:
        """One round more."""
        self.counts.update(done.counts)
        self.seconds += done.seconds
        self.batches += done.batches
        self.skipped += done.skipped
        self.first = self.first or done.first
        self.last = done.last or self.last or done.progress
        self.lag_s = done.lag_s if done.lag_s is not None else self.lag_s


def build_metadata(
    total: ConsumerTotals, key: ProgressKey, shown_table: TablePreview | None, warehouse: Warehouse
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
    shown |= _skips(warehouse, key)
    if shown_table is not None:
        shown |= _table(warehouse, shown_table)
    return shown


def _skips(warehouse: Warehouse, key: ProgressKey) -> dict[str, dg.MetadataValue]:
    """The changes that a person skipped, when there are any: how many ever, and the last."""
    try:
        skips = skips_of(DuckProgress(warehouse.file()), key)
    except ConsumeError as error:
        return {"skipped_ever": dg.MetadataValue.text(f"not shown: {error}")}
    if not skips:
        return {}
    return {"skipped_ever": dg.MetadataValue.int(len(skips)), **skip_metadata(skips[-1])}


def skip_metadata(skip: Skip) -> dict[str, dg.MetadataValue]:
    """A skip, as pages show it."""
    return {
        "skipped_change": dg.MetadataValue.text(f"{skip.change_id} (op {skip.op}, {skip.position})"),
        "skipped_because": dg.MetadataValue.text(skip.reason),
        "skipped_by": dg.MetadataValue.text(f"{skip.by}, {skip.at:%Y-%m-%d %H:%M:%SZ}"),
    }


def _table(warehouse: Warehouse, table: TablePreview) -> dict[str, dg.MetadataValue]:
    """Row count and first rows; why not, when the file is held by somebody: the changes themselves are stored."""
    try:
        rows = count_rows(warehouse.file(), *table.name)
        if rows is None:
            return {}
        shown: dict[str, dg.MetadataValue] = {"dagster/row_count": dg.MetadataValue.int(rows)}
        if rows and table.preview_rows and warehouse.show_values:
            shown["preview"] = first_rows(warehouse.file(), *table.name, table.preview_rows)
    except ConsumeError as error:
        return {"preview": dg.MetadataValue.text(f"not shown: {error}")}
    return shown


def build_failure(errors: Mapping[TableName, tuple[BinlogSyncError, int]], *, show_values: bool = False) -> dg.Failure:
    """The Failure that the run page shows of the tables that failed, each with its error and number of tries.

    Of one table all that is known of it; of several a table of it.
    """
    if len(errors) == 1:
        [(name, (error, tries))] = errors.items()
        shown = failure_metadata(error, name, tries, show_values=show_values)
        return dg.Failure(description=f"{type(error).__name__}: {error}", metadata=shown, allow_retries=False)
    lines = [f"{name}: {type(error).__name__}: {error}" for name, (error, _) in errors.items()]
    several: dict[str, dg.MetadataValue] = {"tables": dg.MetadataValue.text(", ".join(map(str, errors)))}
    for name, (error, tries) in errors.items():
        one = failure_metadata(error, name, tries, show_values=show_values)
        several |= {f"{name}: {key}": value for key, value in one.items() if key != "table"}
    return dg.Failure(description="\n".join(lines), metadata=several, allow_retries=False)


def failure_metadata(
    error: BinlogSyncError, name: TableName, tries: int, *, show_values: bool = False
) -> dict[str, dg.MetadataValue]:
    """What holds a table up: which change of which row, where, what was raised and what to do.

    The row is named by its key: the columns, and their values only with `show_values`.
    """
    shown: dict[str, dg.MetadataValue] = {
        "error": dg.MetadataValue.text(type(error).__name__),
        "message": dg.MetadataValue.text(str(error)),
        "table": dg.MetadataValue.text(str(name)),
        "what_to_do": dg.MetadataValue.text(
            next((text for kind, text in ADVICE if isinstance(error, kind)), "See the message.")
        ),
    }
    if isinstance(error, HandlerError):
        shown["change_id"] = dg.MetadataValue.text(error.change_id)
        shown["position"] = dg.MetadataValue.text(error.position)
        if error.key:
            columns = [printable(column) for column in error.key]
            values = {column: printable(str(value)) for column, value in zip(columns, error.key.values(), strict=True)}
            hidden = f"{', '.join(columns)} (BINLOGSYNC_SHOW_VALUES=yes shows the values)"
            shown["key"] = dg.MetadataValue.json(values) if show_values else dg.MetadataValue.text(hidden)
        shown["tries"] = dg.MetadataValue.int(max(tries, error.tries))
    return shown | traceback_metadata(error)


def traceback_metadata(error: BinlogSyncError) -> dict[str, dg.MetadataValue]:
    """The traceback of what the error was raised from, if there is one.

    A Failure with it is raised `from None`: Dagster would show and print what a handler raised as it is, with whatever
    a row value put into its message.
    """
    if error.__cause__ is None:
        return {}
    lines = "".join(traceback.format_exception(error.__cause__))
    return {"traceback": dg.MetadataValue.md(fenced(lines.rstrip("\n")))}

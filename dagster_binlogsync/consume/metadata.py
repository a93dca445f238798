"""Metadata of consumer runs for the pages in Dagster: totals, skips, table previews and failures."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import dagster as dg

from binlogsync.consume.progress import ConsumerProgress, ProgressKey, TableProgress
from binlogsync.errors import BinlogSyncError, ConsumeError, HandlerError, ModelError, SinkError, WireError
from binlogsync.escaping import printable
from binlogsync.targets.mirror_state import MirrorState
from binlogsync.targets.records import Skip
from dagster_binlogsync.column_metadata import mirrored_columns
from dagster_binlogsync.consume.preview import count_rows, first_rows
from dagster_binlogsync.consume.spec import ConsumerSpec
from dagster_binlogsync.failures import Advice, build_failure, error_metadata
from dagster_binlogsync.keys import TableName
from dagster_binlogsync.operation_counts import count_metadata
from dagster_binlogsync.resources.warehouse import Warehouse

if TYPE_CHECKING:
    from binlogsync.consume.engine import ConsumeResult

ADVICE: Advice = (
    (
        ModelError,
        "Fix the model as the message describes, then press Reload definitions. No change was skipped: the next run "
        "resumes at this change.",
    ),
    (
        HandlerError,
        "Fix the handler or its dependencies; the next run resumes at this change. If it can never be handled, skip "
        "this one change with a reason: the job skip_change_<source>, or binlogsync skip.",
    ),
    (SinkError, "Check that NATS is up and that the credentials are correct; the sensor requests another run."),
    (WireError, "Start the tail of this source first; it creates the stream."),
)


@dataclass(frozen=True, slots=True)
class TablePreview:
    """A table of the warehouse, (schema, table), to count, and the number of first rows to show."""

    name: tuple[str, str]
    preview_rows: int


class ConsumerTotals:
    """Totals of a table over several rounds of a consumer run."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self.seconds = 0.0
        self.batches = self.skipped = 0
        self.first: ConsumerProgress | None = None
        self.last: ConsumerProgress | None = None
        self.lag_s: float | None = None

    @property
    def changes(self) -> int:
        """Number of changes applied."""
        return self.counts.total()

    def add(self, done: "ConsumeResult") -> None:
        """Add the result of one round."""
        self.counts.update(done.counts)
        self.seconds += done.seconds
        self.batches += done.batches
        self.skipped += done.skipped
        self.first = self.first or done.first
        self.last = done.last or self.last or done.progress
        self.lag_s = done.lag_s if done.lag_s is not None else self.lag_s


def build_metadata(
    total: ConsumerTotals, key: ProgressKey, shown_table: TablePreview | None, warehouse: Warehouse | None
) -> Mapping[str, dg.MetadataValue]:
    """Metadata of a run, or of the time since its last report, for the asset page; without a warehouse, only counts."""
    shown: dict[str, dg.MetadataValue] = {
        **count_metadata(total.counts),
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
    if warehouse is None:
        return shown
    shown |= _latest_skip_metadata(warehouse, key)
    if shown_table is not None:
        shown |= table_metadata(warehouse, shown_table)
    return shown


def _latest_skip_metadata(warehouse: Warehouse, key: ProgressKey) -> dict[str, dg.MetadataValue]:
    """Number of skipped changes, and the last of them, if there are any."""
    from binlogsync.consume.skips import skips_of

    try:
        skips = skips_of(TableProgress(warehouse.report_file()), key)
    except ConsumeError as error:
        return {"skipped_ever": dg.MetadataValue.text(f"not shown: {error}")}
    if not skips:
        return {}
    return {"skipped_ever": dg.MetadataValue.int(len(skips)), **skip_metadata(skips[-1])}


def skip_metadata(skip: Skip) -> dict[str, dg.MetadataValue]:
    """Metadata of a skipped change."""
    return {
        "skipped_change": dg.MetadataValue.text(f"{skip.change_id} (op {skip.op}, {skip.position})"),
        "skipped_because": dg.MetadataValue.text(skip.reason),
        "skipped_by": dg.MetadataValue.text(f"{skip.by}, {skip.at:%Y-%m-%d %H:%M:%SZ}"),
    }


def table_metadata(warehouse: Warehouse, table: TablePreview) -> dict[str, dg.MetadataValue]:
    """Row count and first rows; the reason why they are not shown if another process locks the file."""
    try:
        rows = count_rows(warehouse.report_file(), *table.name)
        if rows is None:
            return {}
        shown: dict[str, dg.MetadataValue] = {"dagster/row_count": dg.MetadataValue.int(rows)}
        if rows and table.preview_rows and warehouse.show_values:
            shown["preview"] = first_rows(warehouse.report_file(), *table.name, table.preview_rows)
    except ConsumeError as error:
        return {"preview": dg.MetadataValue.text(f"not shown: {error}")}
    return shown


def column_metadata(warehouse: Warehouse, consumer: ConsumerSpec) -> dict[str, dg.MetadataValue]:
    """Columns of a mirror as MySQL declares them, and the address of the warehouse.

    Nothing for other consumers, before the first load, and while another process locks the file.
    """
    try:
        state = _load_state(warehouse, consumer)
    except ConsumeError:
        return {}
    if state.schema is None:
        return {}
    columns = mirrored_columns(state.schema, consumer.listed, state.added_columns)
    return {
        "dagster/column_schema": dg.TableSchemaMetadataValue(columns),
        "dagster/uri": dg.MetadataValue.text(Path(warehouse.path).absolute().as_uri()),
    }


def build_run_failure(
    errors: Mapping[TableName, tuple[BinlogSyncError, int]], *, show_values: bool = False
) -> dg.Failure:
    """The Failure of a run: for each failed table, the error and the number of attempts.

    The metadata keys of several tables are prefixed with the table name.
    """
    if len(errors) == 1:
        [(name, (error, tries))] = errors.items()
        return build_failure(error, failure_metadata(error, name, tries, show_values=show_values))
    lines = [f"{name}: {type(error).__name__}: {error}" for name, (error, _) in errors.items()]
    several: dict[str, dg.MetadataValue] = {"tables": dg.MetadataValue.text(", ".join(map(str, errors)))}
    for name, (error, tries) in errors.items():
        one = failure_metadata(error, name, tries, show_values=show_values)
        several |= {f"{name}: {key}": value for key, value in one.items() if key != "table"}
    return dg.Failure(description="\n".join(lines), metadata=several, allow_retries=False)


def failure_metadata(
    error: BinlogSyncError, name: TableName, tries: int, *, show_values: bool = False
) -> dict[str, dg.MetadataValue]:
    """Metadata of a blocked table: the change, its row and position, the error, and what to do.

    The row is identified by its key columns; their values are shown only with `show_values`.
    """
    shown: dict[str, dg.MetadataValue] = {
        "message": dg.MetadataValue.text(str(error)),
        "table": dg.MetadataValue.text(str(name)),
        **error_metadata(error, ADVICE),
    }
    if isinstance(error, HandlerError):
        shown["change_id"] = dg.MetadataValue.text(error.change_id)
        shown["position"] = dg.MetadataValue.text(error.position)
        if error.key:
            columns = [printable(column) for column in error.key]
            values = {column: printable(str(value)) for column, value in zip(columns, error.key.values(), strict=True)}
            hidden = f"{', '.join(columns)} (the setting show_values shows the values)"
            shown["key"] = dg.MetadataValue.json(values) if show_values else dg.MetadataValue.text(hidden)
        shown["tries"] = dg.MetadataValue.int(max(tries, error.tries))
    return shown


def _load_state(warehouse: Warehouse, consumer: ConsumerSpec) -> MirrorState:
    """The stored state of a mirror, read here because Dagster keeps local variables of what makes a metadata value."""
    with warehouse.report_file().begin() as transaction:
        return transaction.load_mirror(*consumer.table)

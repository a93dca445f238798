"""Observations of all consumers of a source: the lag of each table, in one event."""

import logging
import time
from collections.abc import Mapping, Sequence

import dagster as dg

from binlogsync.errors import BinlogSyncError
from binlogsync.nats.reader import StreamReader
from dagster_binlogsync.consume.run import TableState
from dagster_binlogsync.keys import consumers_key

logger = logging.getLogger(__name__)
MAX_ROWS = 50
"""Tables in an observation, those with the longest lag first; bounds its size to about 8 kB."""


class LagReport:
    """Writes an observation of the asset `tables/<source>/consumers`. An error of a report is logged."""

    def __init__(self, context: dg.OpExecutionContext, reader: StreamReader, tables: Sequence[TableState]) -> None:
        self._context, self._reader, self._tables = context, reader, tables
        self._behind_since: dict[tuple[str, str], float] = {}
        self._changes = 0
        self._reported_at = time.monotonic()

    def report(self, released: frozenset[tuple[str, str]]) -> None:
        """Write an observation; `released` are tables that another run consumes now."""
        try:
            pending = self._reader.pending_counts()
        except BinlogSyncError as error:
            logger.warning("the lag of the consumers is unknown: %s", error)
            return
        now = time.monotonic()
        rows = sorted((self._row(table, pending, released, now) for table in self._tables), key=lambda row: -row[1])
        changes = sum(table.total.changes for table in self._tables)
        seconds = max(now - self._reported_at, 1e-3)
        blocked = [row for row in rows if row[4].startswith("blocked")]
        metadata = {
            "lag_s": dg.MetadataValue.float(rows[0][1] if rows else 0.0),
            "changes_per_s": dg.MetadataValue.float(round((changes - self._changes) / seconds, 2)),
            "changes_this_shift": dg.MetadataValue.int(changes),
            "tables": dg.MetadataValue.int(len(rows)),
            "tables_behind": dg.MetadataValue.int(sum(row[2] > 0 for row in rows)),
            "tables_blocked": dg.MetadataValue.int(len(blocked)),
            "lag_by_table": dg.MetadataValue.table(
                [
                    dg.TableRecord({"table": name, "lag_s": lag_s, "pending": left, "changes": done, "state": state})
                    for name, lag_s, left, done, state in rows[:MAX_ROWS]
                ],
                schema=dg.TableSchema(
                    [
                        dg.TableColumn("table", "string"),
                        dg.TableColumn("lag_s", "float", description="seconds that the table is behind its stream"),
                        dg.TableColumn("pending", "int", description="messages that are not applied"),
                        dg.TableColumn("changes", "int", description="changes in this shift"),
                        dg.TableColumn("state", "string"),
                    ]
                ),
            ),
        }
        self._changes, self._reported_at = changes, now
        source = self._tables[0].consumer.name.source
        try:
            self._context.log_event(dg.AssetObservation(consumers_key(source), metadata=metadata))
        except Exception:  # noqa: BLE001 - the consumers continue after any error of Dagster's storage
            logger.warning("the lag of the consumers of %s could not be reported", source, exc_info=True)

    def _row(
        self, table: TableState, pending: Mapping[str, int], released: frozenset[tuple[str, str]], now: float
    ) -> tuple[str, float, int, int, str]:
        """(name, lag in seconds, messages left, changes in this shift, state)."""
        consumer = table.consumer
        left = pending.get(consumer.durable, 0)
        if left:
            since = self._behind_since.setdefault(consumer.table, now)
            lag_s = round(now - since + (table.total.lag_s or 0.0), 3)
        else:
            self._behind_since.pop(consumer.table, None)
            lag_s = 0.0
        if table.error is not None:
            state = f"blocked: {type(table.error).__name__}"
        elif consumer.table in released:
            state = "in another run"
        else:
            state = "loading" if table.load.is_loading else "live"
        return str(consumer.name), lag_s, left, table.total.changes, state

"""Reports a running tail to Dagster: observations of the binlog, a heartbeat, and materializations of changed streams.

Metadata values are int or float, so that the asset page plots them; rates instead of totals, because totals restart
at zero with each shift. If a report cannot be written, the tail logs that and continues. The reporter also polls the
status of this run, so that a tail stops whose run was terminated while no signal could reach it.
"""

import logging
import time
from collections.abc import Callable, Iterable
from typing import Any

import dagster as dg

from binlogsync.tail.run import TailProgress
from binlogsync.text_format import time_of_us
from binlogsync.waiting import Interval
from dagster_binlogsync.keys import TableName, binlog_key, tail_alive_key, tail_sensor_name
from dagster_binlogsync.run_status import find_run_end
from dagster_binlogsync.stop_flag import StopFlag
from dagster_binlogsync.tail.dev_process import DevProcesses

logger = logging.getLogger(__name__)

MAX_SILENCE_S = 180.0
DEV_ENDED = "dagster dev has ended"
HEARTBEAT_S = 60.0
"""Seconds between two materializations of the binlog asset: Dagster's freshness policies read only these."""


class TailReporter:
    """Called about once a second. Reports every `report_s`, polls its run every `status_s`, ends the shift."""

    def __init__(
        self,
        context: dg.OpExecutionContext,
        source: str,
        stop: StopFlag,
        *,
        report_s: float,
        shift_s: float,
        status_s: float = 5.0,
        note_tables: Callable[[Iterable[tuple[str, str]]], None] = lambda tables: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._context = context
        self._source = source
        self._stop = stop
        self._clock = clock
        self._note_tables = note_tables
        self._shift_ends = clock() + shift_s
        self._status_interval = Interval(status_s, clock)
        self._report_interval = Interval(report_s, clock)
        self._heartbeat_interval = Interval(HEARTBEAT_S, clock)
        self._dev = DevProcesses.find()
        self._heartbeats = 0
        self._reported: TailProgress | None = None
        self.last: TailProgress | None = None

    def __call__(self, progress: TailProgress) -> None:
        """Report, poll and stop as the clock requires."""
        self.last = progress
        if self._clock() >= self._shift_ends:
            self._stop.request("shift")
        if self._status_interval.is_due():
            self._check_own_run()
        if progress.checkpoint is not None and self._heartbeat_interval.is_due():
            self._report_heartbeat(progress)
        if self._report_interval.is_due():
            self.report(progress)

    def _report_heartbeat(self, progress: TailProgress) -> None:
        """Materialize the binlog asset as a heartbeat, which keeps it fresh."""
        metadata: dict[str, dg.MetadataValue] = {
            "lag_s": dg.MetadataValue.float(round(progress.lag_s, 3)),
            **_position_metadata(progress),
        }
        try:
            silent = seconds_since_tick(self._context.instance, self._source, time.time())
            if silent is not None and silent > MAX_SILENCE_S:
                metadata["keeper_silent_s"] = dg.MetadataValue.float(round(silent, 1))
                self._context.log.warning(
                    f"the sensor of this tail has had no tick for {silent:.0f} s. If the code location shows an error, "
                    "its code server has ended: press Reload definitions, or restart it"
                )
            self._context.log_event(dg.AssetMaterialization(binlog_key(self._source), metadata=metadata))
            self._report_alive()
        except Exception:  # noqa: BLE001 - the tail continues after any error of Dagster's storage
            logger.warning("the heartbeat of %s could not be written; the tail continues", self._source, exc_info=True)

    def _report_alive(self) -> None:
        """Log the check `tail_alive` once, with the second heartbeat, after the sensor has reported it.

        The asset graph counts only checks of the run that has materialized the asset, or later ones.
        """
        self._heartbeats += 1
        if self._heartbeats == 2:
            key = tail_alive_key(self._source)
            description = f"The tail is run {self._context.run_id[:8]}."
            context: Any = self._context  # log_event takes evaluations too, which its annotation omits
            context.log_event(
                dg.AssetCheckEvaluation(
                    asset_key=key.asset_key, check_name=key.name, passed=True, description=description
                )
            )

    def report(self, progress: TailProgress) -> None:
        """Write one observation, and a materialization for each table with changes since the last report."""
        before, self._reported = self._reported, progress
        self._note_tables(progress.tables)
        try:
            known = before.recoveries if before else ()
            for sentence in (text for text in progress.recoveries if text not in known):
                self._context.log.warning(sentence)
            self._context.log_event(
                dg.AssetObservation(binlog_key(self._source), metadata=binlog_metadata(progress, before))
            )
            for (database, table), changes in progress.tables.items():
                grown = changes - (before.tables.get((database, table), 0) if before else 0)
                if grown > 0:
                    name = TableName(self._source, database, table)
                    metadata = {
                        "changes": dg.MetadataValue.int(grown),
                        "lag_s": dg.MetadataValue.float(round(progress.lag_s, 3)),
                        "position": dg.MetadataValue.text(str(progress.checkpoint or "none yet")),
                    }
                    self._context.log_event(dg.AssetMaterialization(name.stream_key, metadata=metadata))
        except Exception:  # noqa: BLE001 - the tail continues after any error of Dagster's storage
            logger.warning("the report of %s could not be written; the tail continues", self._source, exc_info=True)

    def _check_own_run(self) -> None:
        if self._dev is not None and self._dev.are_gone():
            self._stop.request(DEV_ENDED)
            return
        try:
            reason = find_run_end(self._context.instance, self._context.run_id)
        except Exception:  # noqa: BLE001 - the storage may be unavailable for a while; lease and fence still apply
            logger.warning(
                "the status of run %s could not be read; the tail continues", self._context.run_id, exc_info=True
            )
            return
        if reason is not None:
            self._stop.request(reason)


def seconds_since_tick(instance: dg.DagsterInstance, source: str, now: float) -> float | None:
    """Seconds since the last tick of the tail sensor. None if it is switched off or has had no tick."""
    if instance.schedule_storage is None:
        return None
    for state in instance.all_instigator_state():
        if state.name == tail_sensor_name(source) and state.is_running:
            ticks = instance.get_ticks(state.instigator_origin_id, state.selector_id, limit=1)
            return now - ticks[0].timestamp if ticks else None
    return None


def binlog_metadata(progress: TailProgress, before: TailProgress | None = None) -> dict[str, dg.MetadataValue]:
    """Metadata of an observation: rates since `before`, and the position of the tail."""
    changes, transactions, flushes, read, seconds = _difference(progress, before)
    seconds = max(seconds, 1e-3)
    metadata: dict[str, dg.MetadataValue] = {
        "lag_s": dg.MetadataValue.float(round(progress.lag_s, 3)),
        "changes_per_s": dg.MetadataValue.float(round(changes / seconds, 2)),
        "transactions_per_s": dg.MetadataValue.float(round(transactions / seconds, 2)),
        "bytes_per_s": dg.MetadataValue.float(round(read / seconds, 1)),
        "flushes": dg.MetadataValue.int(flushes),
        "flush_changes": dg.MetadataValue.int(progress.last_flush_changes),
        "flush_reason": dg.MetadataValue.text(progress.last_flush_reason or "none yet"),
        "changes_this_shift": dg.MetadataValue.int(progress.changes),
        "dropped_by_filter": dg.MetadataValue.int(progress.dropped),
        "schema_changes": dg.MetadataValue.int(progress.schema_changes),
        **_position_metadata(progress),
    }
    if progress.recoveries:
        metadata["recoveries"] = dg.MetadataValue.text("\n".join(progress.recoveries))
    return metadata


def _difference(progress: TailProgress, before: TailProgress | None) -> tuple[int, int, int, int, float]:
    if before is None:
        return progress.changes, progress.transactions, progress.flushes, progress.bytes_read, progress.seconds
    return (
        progress.changes - before.changes,
        progress.transactions - before.transactions,
        progress.flushes - before.flushes,
        progress.bytes_read - before.bytes_read,
        progress.seconds - before.seconds,
    )


def _position_metadata(progress: TailProgress) -> dict[str, dg.MetadataValue]:
    checkpoint = progress.checkpoint
    if checkpoint is None:
        return {"position": dg.MetadataValue.text("none yet")}
    metadata: dict[str, dg.MetadataValue] = {
        # As text: a number would be plotted as one more line that only rises.
        "position": dg.MetadataValue.text(str(checkpoint)),
        "server_uuid": dg.MetadataValue.text(checkpoint.server_uuid),
    }
    if checkpoint.gtids is not None:
        metadata["gtid_set"] = dg.MetadataValue.text(str(checkpoint.gtids))
    if checkpoint.ts_us:
        committed = time_of_us(checkpoint.ts_us)
        metadata["last_commit"] = dg.MetadataValue.text(committed.isoformat())
    return metadata

"""Accepting a gap: the operator confirms, with a reason, that purged changes are lost. Every sink records the gap.

Each sink whose checkpoint is lost gets a flush without changes, from its checkpoint to the first readable position: in
the audit log as a flush, in the stream on the checkpoint subject (header Cdc-Gap). Before it, the stream gets a message
on the subject of each table, a schema change of the kind "gap", so that every consumer receives it in binlog order: a
mirror reads its table again, a handler records the gap. Changes that a sink has are not delivered again. This runs only
at the request of the operator.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

from binlogsync.change import SchemaChange
from binlogsync.change_batch import ChangeBatch, build_schema_batch
from binlogsync.errors import PositionError
from binlogsync.filters import TableFilter
from binlogsync.flush import Flush
from binlogsync.mysql import MySQLConfig, ServerInfo, resolve_start, validate
from binlogsync.mysql.divergence import check_same_transactions
from binlogsync.mysql.identity import check_identity
from binlogsync.mysql.validate import find_known_gtids, find_unknown_gtids
from binlogsync.position import Checkpoint
from binlogsync.sinks import Sink
from binlogsync.start_notation import parse_start
from binlogsync.tail.existing_tables import captured_tables
from binlogsync.tail.start import TailStart

log = logging.getLogger(__name__)
_MESSAGES = 500
"""Maximum number of tables per flush: such a flush is stored atomically and does not move the checkpoint."""


@dataclass(frozen=True, slots=True)
class Gap:
    """A gap that was accepted.

    Attributes:
        reason: given by the operator.
        missing: the missing changes, as the server reports them.
        before, after: the checkpoints between which changes are missing.
    """

    reason: str
    missing: str
    before: Checkpoint
    after: Checkpoint

    def to_text(self) -> str:
        """One line of JSON in ASCII, stored in the stream and in the audit log."""
        ends = {"from": self.before, "to": self.after}
        # The sequence belongs to the message that contained the checkpoint, not to the position.
        bounds = {name: json.loads(replace(end, sequence=None).to_text()) for name, end in ends.items()}
        return json.dumps({"reason": self.reason, "missing": self.missing, **bounds})

    def __str__(self) -> str:
        return f"a GAP was accepted from {self.before} to {self.after} ({self.reason}): {self.missing}"


def accept_gap(
    config: MySQLConfig,
    info: ServerInfo,
    origin: TailStart,
    captured: TableFilter,
    terms: tuple[str, str],
    save: Callable[[Checkpoint], None],
    before: Callable[[], None] = lambda: None,
) -> list[Gap]:
    """Move each lost checkpoint to the first readable position. Returns the gaps, empty if none was needed.

    `terms` are (reason, where to resume: "oldest", "now", ...); `save` saves the checkpoint if no sink has one, and
    `before` is called before a gap is stored in a sink that takes snapshots. The sinks are open, and must be opened
    again afterwards. Raises SinkError, SourceError, PositionError, StoreError.
    """
    reason, where = terms
    source, captured = config.source, captured.folded(info.fold)
    held: list[tuple[Sink | None, Checkpoint]] = [(sink, at) for sink, at in origin.sinks.items() if at is not None]
    gaps = []
    for sink, checkpoint in held or [(None, origin.start)]:
        missing = _missing(config, checkpoint)
        if missing is None:
            continue
        gap = Gap(reason, missing, checkpoint, _find_resumption(config, info, checkpoint, where))
        if sink is not None and sink.takes_snapshots:
            before()
        if sink is not None and sink.feeds_consumers:
            for flush in _flushes_of_tables(source, info, gap, captured_tables(config, captured, info.fold, sink)):
                sink.write(flush)
        if sink is not None:
            sink.write(_flush(source, gap))
        else:
            save(gap.after)
        log.warning("%s: %s: %s", source, sink.name if sink is not None else "position store", gap)
        gaps.append(gap)
    return gaps


def _missing(config: MySQLConfig, checkpoint: Checkpoint) -> str | None:
    """Why the server cannot resume at the checkpoint; None if it can."""
    try:
        for start in _starts(checkpoint):
            validate(config, start)
    except PositionError as error:
        return error.reason
    return None


def _starts(checkpoint: Checkpoint) -> Iterator[Checkpoint]:
    yield checkpoint
    if checkpoint.resume is not None:
        yield checkpoint.read_start()


def _find_resumption(config: MySQLConfig, info: ServerInfo, held: Checkpoint, where: str) -> Checkpoint:
    """Where reading resumes. With GTIDs, "oldest" excludes the transactions that the sink already has."""
    start = parse_start(where)
    if start == "oldest" and held.server_uuid != info.server_uuid and (held.gtids is None or not info.gtids):
        raise PositionError(
            f"{held} belongs to server {held.server_uuid}, and without GTIDs the oldest binlog of {info.server_uuid} "
            "would deliver stored changes again; set --gap-start (gap_start) to now, a time or a position"
        )
    if start != "oldest" or held.gtids is None or not info.gtids or held.gtids.flavor != info.flavor:
        return resolve_start(config, start)
    is_here = held.server_uuid == info.server_uuid
    if (is_here and find_unknown_gtids(config, held.gtids)) or _is_other_log(config, info, held):
        # The server, or the one it was copied from, was reset or restored and has assigned the same GTIDs again.
        return resolve_start(config, start)
    known = find_known_gtids(config, held.gtids)
    if info.purged is not None:
        known = known.union(info.purged)
    begin = resolve_start(config, known) if known else resolve_start(config, start)
    if held.inside is not None and not known.has(held.inside) and info.executed and info.executed.has(held.inside):
        raise PositionError(
            f"{held.inside} is stored in part, and the server still has it, after purged transactions; start at "
            "'now' to accept the loss of the rest of it too, or continue with another server"
        )
    return begin


def _is_other_log(config: MySQLConfig, info: ServerInfo, held: Checkpoint) -> bool:
    try:
        if held.server_uuid == info.server_uuid:
            check_identity(config, info, held)
        else:
            check_same_transactions(config, info, held)
    except PositionError:
        return True
    return False


def _flush(source: str, gap: Gap) -> Flush:
    now_us = int(time.time() * 1e6)
    return Flush(
        source=source,
        number=0,
        reason="gap",
        batches=(),
        start=gap.before,
        checkpoint=gap.after,
        opened_us=now_us,
        closed_us=now_us,
        note=gap.to_text(),
    )


def _flushes_of_tables(source: str, info: ServerInfo, gap: Gap, tables: Sequence[tuple[str, str]]) -> Iterator[Flush]:
    """A message for each table; the checkpoint does not move, so that an interruption repeats them all."""
    for first in range(0, len(tables), _MESSAGES):
        batches = [build_marker(gap, info, table, number) for number, table in enumerate(tables[first:][:_MESSAGES])]
        flush = _flush(source, gap)
        yield replace(flush, batches=tuple(batches), checkpoint=gap.before)


def build_marker(gap: Gap, info: ServerInfo, table: tuple[str, str], number: int) -> ChangeBatch:
    """The message for one table: the last change before the position after the gap."""
    at, now_us = gap.after.position, int(time.time() * 1e6)
    message = (
        f"the tail resumed after a gap of the binlog from {gap.before} to {gap.after} ({gap.reason}): {gap.missing}"
    )
    ddl = SchemaChange("gap", (table,), message, number, at, None, now_us, table[0])
    source = {"gtid": None, "file": at.file, "pos": at.pos, "row": number, "txn_pos": max(0, at.pos - 1), "order": 0}
    server = (gap.after.server_uuid or info.server_uuid, info.server_id)
    return build_schema_batch(ddl, table, {**source, "ts_us": now_us, "seq": number}, server)

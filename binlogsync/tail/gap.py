"""A hole that a person accepts: what the server no longer has is given up, with a reason, and written down.

Each sink whose position is gone gets a flush without changes from where it stood to where the server's binlog can be
read again: the audit log has it among its flushes, the stream on its checkpoint subject (header Cdc-Gap). Before that
the stream gets a message on the subject of each table, a schema change of the kind "gap", so that every consumer meets
it in its place among the changes: a mirror reads its table again, a handler notes it. What a sink
holds already does not come again. Nothing here runs unless a person has asked for it.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

from binlogsync.change import ChangeBatch, SchemaChange, build_schema_batch
from binlogsync.errors import PositionError
from binlogsync.filters import TableFilter
from binlogsync.flush import Flush
from binlogsync.mysql import MySQLConfig, ServerInfo, parse_start, resolve_start, validate
from binlogsync.mysql.identity import check_identity
from binlogsync.mysql.validate import find_known_gtids, find_unknown_gtids
from binlogsync.position import Checkpoint
from binlogsync.sinks import Sink
from binlogsync.sinks.jetstream import JetStreamSink
from binlogsync.tail.existing_tables import captured_tables
from binlogsync.tail.start import TailStart

log = logging.getLogger(__name__)
_MESSAGES = 500
"""Tables that are told in one flush: it is stored as a whole, without a checkpoint of its own."""


@dataclass(frozen=True, slots=True)
class Gap:
    """A hole that was accepted.

    Attributes:
        reason: given by the person.
        missing: what the server says is missing.
        before, behind: where the hole begins and ends.
    """

    reason: str
    missing: str
    before: Checkpoint
    after: Checkpoint

    def to_text(self) -> str:
        """One line of JSON in ASCII, the form kept in stream and audit log, the same in both."""
        ends = {"from": self.before, "to": self.after}
        # A sequence is of the message that carried the checkpoint, not of the position.
        places = {name: json.loads(replace(place, sequence=None).to_text()) for name, place in ends.items()}
        return json.dumps({"reason": self.reason, "missing": self.missing, **places})

    def __str__(self) -> str:
        return f"a HOLE was accepted from {self.before} to {self.after} ({self.reason}): {self.missing}"


def accept_gap(
    config: MySQLConfig,
    info: ServerInfo,
    origin: TailStart,
    captured: TableFilter,
    terms: tuple[str, str],
    save: Callable[[Checkpoint], None],
) -> list[Gap]:
    """Move what is gone to where the log can be read again, and say what was given up; [] when nothing is gone.

    `terms` are (reason, where to begin: "oldest", "now", ...); `save` keeps the checkpoint where no sink holds one. The
    sinks are open, and have to be opened again afterwards. Raises SinkError, SourceError, PositionError.
    """
    reason, where = terms
    source, captured = config.source, captured.folded(info.fold)
    held: list[tuple[Sink | None, Checkpoint]] = [(sink, at) for sink, at in origin.sinks.items() if at is not None]
    gaps = []
    for sink, checkpoint in held or [(None, origin.start)]:
        missing = _missing(config, checkpoint)
        if missing is None:
            continue
        gap = Gap(reason, missing, checkpoint, _behind(config, info, checkpoint, where))
        if isinstance(sink, JetStreamSink):
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
    """What is wrong with it; None when it is good."""
    try:
        for place in _places(checkpoint):
            validate(config, place)
    except PositionError as error:
        return str(error).partition("; choose")[0]
    return None


def _places(checkpoint: Checkpoint) -> Iterator[Checkpoint]:
    yield checkpoint
    if checkpoint.resume is not None:
        yield checkpoint.read_start()


def _behind(config: MySQLConfig, info: ServerInfo, held: Checkpoint, where: str) -> Checkpoint:
    """Where reading can begin again. From the oldest, what is held already is left out, when GTIDs tell what it is."""
    start = parse_start(where)
    if start == "oldest" and held.server_uuid != info.server_uuid and (held.gtids is None or not info.gtids):
        raise PositionError(
            f"{held} belongs to server {held.server_uuid}, and without GTIDs the oldest binlog of {info.server_uuid} "
            "would bring again what is stored; say where to begin with --gap-start (gap_start): now, a time or a place"
        )
    if start != "oldest" or held.gtids is None or not info.gtids or held.gtids.flavor != info.flavor:
        return resolve_start(config, start)
    if held.server_uuid == info.server_uuid and (
        find_unknown_gtids(config, held.gtids) or _is_other_log(config, info, held)
    ):
        return resolve_start(config, start)  # it was reset, and has given out the same GTIDs again
    known = find_known_gtids(config, held.gtids)
    if info.purged is not None:
        known = known.union(info.purged)
    begin = resolve_start(config, known) if known else resolve_start(config, start)
    if held.inside is not None and not known.has(held.inside) and info.executed and info.executed.has(held.inside):
        raise PositionError(
            f"{held.inside} is stored in part, and the server still has it, behind others that are gone; begin at "
            "'now' to give up the rest of it too, or go on with another server"
        )
    return begin


def _is_other_log(config: MySQLConfig, info: ServerInfo, held: Checkpoint) -> bool:
    try:
        check_identity(config, info, held)
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
    """A message for each table; the checkpoint stays where it was, so that what is cut short here is begun again."""
    for first in range(0, len(tables), _MESSAGES):
        batches = [build_marker(gap, info, table, number) for number, table in enumerate(tables[first:][:_MESSAGES])]
        flush = _flush(source, gap)
        yield replace(flush, batches=tuple(batches), checkpoint=gap.before)


def build_marker(gap: Gap, info: ServerInfo, table: tuple[str, str], number: int) -> ChangeBatch:
    """What one table is told: as the last change before the position behind the gap."""
    at, now_us = gap.after.position, int(time.time() * 1e6)
    said = f"the tail resumed after a gap of the binlog from {gap.before} to {gap.after} ({gap.reason}): {gap.missing}"
    ddl = SchemaChange("gap", (table,), said, number, at, None, now_us, table[0])
    place = {"gtid": None, "file": at.file, "pos": at.pos, "row": number, "txn_pos": max(0, at.pos - 1), "order": 0}
    server = (gap.after.server_uuid or info.server_uuid, info.server_id)
    return build_schema_batch(ddl, table, {**place, "ts_us": now_us, "seq": number}, server)

"""A hole that a person accepts: what the server no longer has is given up, with a reason, and written down.

Each sink whose position is gone gets a flush without changes from where it stood to where the server's binlog can be
read again: the audit log has it among its flushes, the stream on its checkpoint subject (header Cdc-Gap). What a sink
holds already does not come again. Nothing here runs unless a person has asked for it.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from binlogsync.errors import PositionError
from binlogsync.flush import Flush
from binlogsync.mysql import MySQLConfig, ServerInfo, parse_start, resolve_start, validate
from binlogsync.mysql.validate import known_here, lacking
from binlogsync.position import Checkpoint
from binlogsync.sinks import Sink
from binlogsync.tail.origin import Origin

log = logging.getLogger(__name__)


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
    behind: Checkpoint

    def to_text(self) -> str:
        """One line of JSON in ASCII, the form kept in stream and audit log."""
        places = {name: json.loads(place.to_text()) for name, place in (("from", self.before), ("to", self.behind))}
        return json.dumps({"reason": self.reason, "missing": self.missing, **places})

    def __str__(self) -> str:
        return f"a HOLE was accepted from {self.before} to {self.behind} ({self.reason}): {self.missing}"


def accept_gap(
    config: MySQLConfig,
    info: ServerInfo,
    source: str,
    origin: Origin,
    terms: tuple[str, str],
    save: Callable[[Checkpoint], None],
) -> list[Gap]:
    """Move what is gone to where the log can be read again, and say what was given up; [] when nothing is gone.

    `terms` are (reason, where to begin: "oldest", "now", ...); `save` keeps the checkpoint where no sink holds one. The
    sinks are open, and have to be opened again afterwards. Raises SinkError, SourceError, PositionError.
    """
    reason, where = terms
    held: list[tuple[Sink | None, Checkpoint]] = [(sink, at) for sink, at in origin.sinks.items() if at is not None]
    gaps = []
    for sink, checkpoint in held or [(None, origin.start)]:
        missing = _missing(config, checkpoint)
        if missing is None:
            continue
        gap = Gap(reason, missing, checkpoint, _behind(config, info, checkpoint, where))
        if sink is not None:
            sink.write(_flush(source, gap))
        else:
            save(gap.behind)
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
        yield checkpoint.to_read()


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
    if held.server_uuid == info.server_uuid and lacking(config, held.gtids):
        return resolve_start(config, start)  # it was reset, and has given out the same GTIDs again
    known = known_here(config, held.gtids)
    if info.purged is not None:
        known = known.union(info.purged)
    begin = resolve_start(config, known) if known else resolve_start(config, start)
    if held.inside is not None and not known.has(held.inside) and info.executed and info.executed.has(held.inside):
        raise PositionError(
            f"{held.inside} is stored in part, and the server still has it, behind others that are gone; begin at "
            "'now' to give up the rest of it too, or go on with another server"
        )
    return begin


def _flush(source: str, gap: Gap) -> Flush:
    now_us = int(time.time() * 1e6)
    return Flush(
        source=source,
        number=0,
        reason="gap",
        batches=(),
        start=gap.before,
        checkpoint=gap.behind,
        opened_us=now_us,
        closed_us=now_us,
        note=gap.to_text(),
    )

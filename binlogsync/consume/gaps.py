"""Gaps: changes that a consumer may have missed. A gap is stored with progress before progress moves past it.

A gap stays open until it is resolved: for a mirror by rereading its table, or by a verification that finds mirror and
table equal; for a handler by the operator, with a reason. Until then the consumer's check `no_gap` fails. Gaps are
stored where progress is (ProgressStore).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from binlogsync.consume.progress import ProgressKey, ProgressStore
from binlogsync.errors import ConfigError
from binlogsync.targets.records import ConsumerGap, new_gap

if TYPE_CHECKING:
    from binlogsync.change_batch import ChangeBatch

__all__ = [
    "ConsumerGap",
    "acknowledge_gaps",
    "gap_from_batch",
    "gaps_of",
    "new_gap",
    "open_gaps",
    "record_gap",
]


def gap_from_batch(batch: ChangeBatch, *, is_mirror: bool) -> ConsumerGap | None:
    """The gap that a message of the table reports; None for any other change."""
    ddl = batch.ddl
    if ddl is None or ddl.kind not in ("gap", "foreign_key"):
        return None
    return new_gap("accepted" if ddl.kind == "gap" else "foreign_key", ddl.sql, is_mirror=is_mirror)


def record_gap(store: ProgressStore, key: ProgressKey, gap: ConsumerGap) -> None:
    """Store the gap in the progress store, of any kind."""
    if (tables := store.tables) is not None:
        with tables.begin() as transaction:
            transaction.insert_gap(key, gap)
        return
    known = store.gaps(key)
    if not any((each.kind, each.detail, each.resolution) == (gap.kind, gap.detail, "") for each in known):
        store.put_gaps(key, [*known, gap])


def gaps_of(store: ProgressStore, key: ProgressKey) -> Sequence[ConsumerGap]:
    """All gaps of a consumer, resolved ones too, in order."""
    if (tables := store.tables) is not None:
        with tables.begin() as transaction:
            return transaction.load_gaps(key)
    return store.gaps(key)


def open_gaps(store: ProgressStore, key: ProgressKey) -> list[ConsumerGap]:
    """The gaps that are not resolved."""
    return [gap for gap in gaps_of(store, key) if not gap.resolution]


def acknowledge_gaps(store: ProgressStore, key: ProgressKey, reason: str, by: str) -> list[ConsumerGap]:
    """Mark the open gaps of a handler as accepted by the operator; returns them.

    Raises ConfigError without a reason, without an open gap, and for a mirror, which must equal its table.
    """
    if not reason.strip():
        raise ConfigError(f"{key}: to acknowledge a gap, give the reason")
    known = gaps_of(store, key)
    opened = [gap for gap in known if not gap.resolution]
    if not opened:
        raise ConfigError(f"{key} has no open gap")
    if any(gap.is_mirror for gap in opened):
        raise ConfigError(
            f"{key} is a mirror: its gap is closed by rereading the table, which each run of the mirror tries, or by a "
            "verification that finds both equal: binlogsync verify, or binlogsync rewind --rebuild"
        )
    if (tables := store.tables) is not None:
        with tables.begin() as transaction:
            transaction.resolve_gaps(key, reason.strip(), by, max(gap.found_at for gap in opened))
    else:
        done = [gap if gap.resolution else replace(gap, resolution=reason.strip(), resolved_by=by) for gap in known]
        store.put_gaps(key, done)
    return opened

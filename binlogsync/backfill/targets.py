"""What a backfill hands changes to. A target stores how far it got with the changes, in one go.

A killed backfill is asked for again in the same words: `begin` then gives the plan as it was fixed the first time, and
which changes are done, and nothing is done twice. A finished one begins anew.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import pyarrow as pa
import pyarrow.compute as pc

from binlogsync.backfill.ranges import Plan, is_behind, select
from binlogsync.change import ChangeBatch
from binlogsync.errors import PositionError
from binlogsync.position import Checkpoint
from binlogsync.stream.reader import StreamBatch


@dataclass(frozen=True, slots=True)
class Begun:
    """What a target holds of a backfill.

    Attributes:
        plan: to work on; that of the first try where this one goes on with it.
        done: a place; the changes before it are in the target. None for nothing.
    """

    plan: Plan
    done: Checkpoint | None = None


class BackfillTarget(Protocol):
    """See the module. One thread uses it."""

    name: str
    """For people: what it is, and where."""

    def begin(self, plan: Plan) -> Begun:
        """Be ready for the changes of this plan, or of an unfinished one of the same words. Raises BinlogSyncError."""

    def write(self, items: Sequence[StreamBatch], stop: threading.Event) -> None:
        """Store the changes, in order, and that they are done; may return early on `stop`."""

    def finish(self) -> None:
        """Everything was written."""

    def close(self) -> None:
        """Let go of files and connections; never raises."""


class Collected:
    """A target in memory, for notebooks and tests: `batches` are the changes; a killed one begins anew."""

    name = "memory"

    def __init__(self) -> None:
        self.batches: list[ChangeBatch] = []

    def begin(self, plan: Plan) -> Begun:
        """Empty."""
        self.batches = []
        return Begun(plan)

    def write(self, items: Sequence[StreamBatch], stop: threading.Event) -> None:
        """Keep them."""
        self.batches += [item.batch for item in items]

    def finish(self) -> None:
        """Nothing is left to do."""

    def close(self) -> None:
        """Keeps what it holds."""

    def table(self) -> pa.Table:
        """All changes as one Arrow table: op, before, after, and where each comes from; `.to_pandas()` is a DataFrame.

        Columns that only some of the changes have are NULL in the others.
        """
        rows = [batch.data for batch in self.batches if batch.ddl is None]
        tables = [pa.Table.from_batches([data.drop_columns(["seq"])]) for data in rows]
        return pa.concat_tables(tables, promote_options="permissive") if tables else pa.table({})


class Dropper:
    """Leaves out what is done already of changes that come in order, up to the place that a target knows."""

    def __init__(self, done: Checkpoint | None) -> None:
        self._done = done
        self._passed = self._met = done is None

    def rest(self, item: StreamBatch) -> StreamBatch | None:
        """What is not done yet; None for nothing."""
        if self._passed or self._done is None:
            return item
        if item.batch.server_uuid != self._done.server_uuid:
            return None  # it comes before the place, as it did the first time; `check` finds out if that is not so
        self._met = True
        mask = is_behind(item.batch, self._done)
        self._passed = bool(mask[-1].as_py())
        return select(item, mask) if mask.true_count else None

    def check(self, plan: Plan) -> None:
        """At the end: raises PositionError when no change came from the server that the place is of."""
        if not self._met and self._done is not None:
            raise PositionError(
                f"{plan.name}: this backfill was done up to {self._done} of server {self._done.server_uuid}, of which "
                "nothing came by, so nobody knows what is left; remove what it wrote, and begin anew"
            )


def count_ops(batch: ChangeBatch) -> dict[str, int]:
    """Changes by op; a schema change is none."""
    if batch.ddl is not None:
        return {}
    counted = pc.value_counts(batch.data.column("op").cast(pa.string())).to_pylist()
    return {item["values"]: item["counts"] for item in counted}

"""A backfill into a folder of Parquet files.

    part-00001.parquet ...   op, before and after as structs of the table's columns, and where each change comes from;
                             texts of impossible dates in columns "impossible.before.<column>"; the table's schema as
                             JSON in the file's metadata; schema changes are not in them
    _manifest.json           plan, parts with their numbers of changes, how far it is, whether it is finished

A part counts when the manifest names it. The part is on the disk before the manifest is, and both are put in place by
a rename; so a kill at any moment leaves a folder that says exactly what is done. Readers skip names with an underscore:
`pyarrow.parquet.read_table(folder)`, `pandas.read_parquet(folder)` and DuckDB's `read_parquet('folder/*.parquet',
union_by_name = true)` read it as it is.
"""

from __future__ import annotations

import fcntl
import json
import os
import threading
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from binlogsync.backfill.ranges import Plan, place_behind
from binlogsync.backfill.targets import Begun
from binlogsync.change import ChangeBatch
from binlogsync.errors import ConfigError, PositionError, SinkError
from binlogsync.position import Checkpoint
from binlogsync.private_files import make_folder, open_new
from binlogsync.stream.reader import StreamBatch
from binlogsync.wire.arrow import from_arrow, to_arrow
from binlogsync.wire.joining import join_batches

MANIFEST = "_manifest.json"
_PART = "part-{:05d}.parquet"


class ParquetTarget:
    """A `BackfillTarget` into the folder `path`, which is made where it is missing."""

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self.name = f"Parquet files in {self.path}"
        self._plan: Plan | None = None
        self._parts: list[dict[str, Any]] = []
        self._done: Checkpoint | None = None
        self._number = 0
        self._locked: int | None = None

    def begin(self, plan: Plan) -> Begun:
        """See BackfillTarget. Refuses a folder that holds anything else."""
        try:
            make_folder(self.path)
            self._lock()
            kept = self._read()
            if kept is not None and kept["finished"]:
                self._same(Plan.from_text(kept["plan"]), plan)
                kept = None
            if kept is not None:
                self._go_on(kept)
                plan = self._plan = self._same(Plan.from_text(kept["plan"]), plan)
                self._clear(keep={part["file"] for part in self._parts})
            else:
                self._plan, self._parts, self._done, self._number = plan, [], None, 0
                self._write_manifest(finished=False)
                self._clear()
        except OSError as error:
            raise self._failed(error) from error
        return Begun(plan, self._done)

    def write(self, items: Sequence[StreamBatch], stop: threading.Event) -> None:
        """One part for each schema among the changes, then the manifest that counts them all."""
        parts = []
        try:
            for batch in join_batches([item.batch for item in items if item.batch.ddl is None]):
                self._number += 1
                name = _PART.format(self._number)
                self._write_part(name, batch)
                parts.append({"file": name, "changes": len(batch)})
            self._parts += parts
            self._done = place_behind(items[-1].batch)
            self._write_manifest(finished=False)
        except (OSError, pa.ArrowException) as error:
            raise self._failed(error) from error

    def finish(self) -> None:
        """The manifest says so."""
        try:
            self._write_manifest(finished=True)
        except OSError as error:
            raise self._failed(error) from error

    def close(self) -> None:
        """Let go of the folder."""
        if self._locked is not None:
            os.close(self._locked)
        self._locked = None

    def _lock(self) -> None:
        """One backfill at a time; the lock ends with the process, however that ends."""
        self.close()
        self._locked = os.open(self.path, os.O_RDONLY)
        try:
            fcntl.flock(self._locked, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise ConfigError(
                f"{self.path}: another backfill writes there now; wait, or choose a new folder"
            ) from error

    def _read(self) -> Any:
        """The manifest, checked against what is asked; None for a folder with nothing in it."""
        path = self.path / MANIFEST
        if not path.exists():
            others = [each.name for each in self.path.iterdir()]
            if others:
                raise ConfigError(
                    f"{self.path} holds {others[0]} and no {MANIFEST}, so it is not of a backfill; choose a new folder"
                )
            return None
        try:
            return json.loads(path.read_text())
        except ValueError as error:
            raise ConfigError(f"{path} is not a manifest ({error}); choose a new folder") from error

    def _same(self, kept: Plan, plan: Plan) -> Plan:
        if not kept.is_same(plan):
            raise ConfigError(
                f"{self.path} holds another backfill ({kept.name}: {kept.words}); remove the folder, or "
                "choose a new one"
            )
        return kept

    def _go_on(self, kept: dict[str, Any]) -> None:
        self._parts = kept["parts"]
        self._done = None if kept["done"] is None else Checkpoint.from_text(kept["done"])
        self._number = len(self._parts)

    def _clear(self, keep: set[str] | None = None) -> None:
        """Remove parts that do not count, and what was being written."""
        for path in self.path.glob("*part-*.parquet*"):
            if path.name not in (keep or set()):
                path.unlink()

    def _write_part(self, name: str, batch: ChangeBatch) -> None:
        aside = self.path / f".{name}.new"
        with open_new(aside) as file:
            pq.write_table(pa.Table.from_batches([to_arrow(batch)]), file, compression="zstd")
        _put(aside, self.path / name)

    def _write_manifest(self, *, finished: bool) -> None:
        assert self._plan is not None
        record = {
            "plan": self._plan.to_text(),
            "changes": sum(part["changes"] for part in self._parts),
            "finished": finished,
            "done": None if self._done is None else self._done.to_text(),
            "parts": self._parts,
        }
        aside = self.path / f".{MANIFEST}.new"
        with open_new(aside) as file:
            file.write(json.dumps(record, indent=1).encode())
        _put(aside, self.path / MANIFEST)

    def _failed(self, error: Exception) -> SinkError:
        return SinkError(f"{self.path} cannot be written: {error}; check the disk and the rights, then start it again")


def read_parquet(path: str | Path) -> Iterator[ChangeBatch]:
    """The changes that a backfill has written, in order. Raises PositionError for a folder that is none of a backfill.

    The numbers in `seq` are not kept; they count from 0 in each batch.
    """
    folder = Path(path)
    try:
        manifest = json.loads((folder / MANIFEST).read_text())
        names = [part["file"] for part in manifest["parts"]]
    except (OSError, ValueError, KeyError) as error:
        raise PositionError(f"{folder} holds no backfill: {error!r}") from error
    for name in names:
        for batch in pq.read_table(folder / name).combine_chunks().to_batches():
            yield from_arrow(batch)


def _put(aside: Path, path: Path) -> None:
    """Rename, with both the file and its name on the disk."""
    with aside.open("rb") as file:
        os.fsync(file.fileno())
    aside.replace(path)
    with suppress(OSError):  # not every file system lets a folder be synced
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)

"""The replay target that writes a folder of Parquet files.

    part-00001.parquet ...   op, before and after as structs of the table's columns, and the source of each change;
                             invalid dates as text in columns "impossible.before.<column>"; the table's schema as JSON
                             in the file's metadata; schema changes are not written
    _manifest.json           the plan, the files with their numbers of changes, the checkpoint stored, and whether the
                             replay is finished

Only files that the manifest lists are valid. Each file is synced to disk before the manifest that lists it, and both
are renamed atomically, so the folder is consistent if the process is killed at any time. Readers ignore names that
start with an underscore: `pyarrow.parquet.read_table(folder)`, `pandas.read_parquet(folder)` and DuckDB's
`read_parquet('folder/*.parquet', union_by_name = true)` read the folder directly.
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

from binlogsync.change_batch import ChangeBatch
from binlogsync.codec.arrow import from_arrow, to_arrow
from binlogsync.codec.joining import join_batches
from binlogsync.errors import ConfigError, PositionError, SinkError
from binlogsync.nats.reader import StreamBatch
from binlogsync.position import Checkpoint
from binlogsync.private_files import make_folder, open_new
from binlogsync.replay.ranges import ReplayPlan, checkpoint_after
from binlogsync.replay.targets import ReplayState, stored_before

MANIFEST = "_manifest.json"
_PART = "part-{:05d}.parquet"


class ParquetTarget:
    """The `ReplayTarget` that writes Parquet files to the folder `path`, which is created if it is missing."""

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self.name = f"Parquet files in {self.path}"
        self._plan: ReplayPlan | None = None
        self._parts: list[dict[str, Any]] = []
        self._done: Checkpoint | None = None
        self._number = 0
        self._lock_fd: int | None = None

    def begin(self, plan: ReplayPlan, stop: threading.Event) -> ReplayState:
        """See ReplayTarget. Raises ConfigError for a folder that contains anything else."""
        try:
            make_folder(self.path)
            self._lock()
            manifest = self._read_manifest()
            if manifest is not None:
                stored = self._check_plan(ReplayPlan.from_text(manifest["plan"]), plan)
            if manifest is not None and not manifest["finished"]:
                self._resume(manifest)
                plan = self._plan = stored
                self._delete_parts(keep={part["file"] for part in self._parts})
            else:
                self._plan, self._parts, self._done, self._number = plan, [], None, 0
                self._write_manifest(finished=False)
                self._delete_parts()
        except OSError as error:
            raise self._failed(error) from error
        return ReplayState(plan, None if self._done is None else stored_before(self._done))

    def write(self, items: Sequence[StreamBatch], stop: threading.Event) -> None:
        """Write a file for each schema among the changes, then the manifest that lists them."""
        parts = []
        try:
            for batch in join_batches([item.batch for item in items if item.batch.ddl is None]):
                self._number += 1
                name = _PART.format(self._number)
                self._write_part(name, batch)
                parts.append({"file": name, "changes": len(batch)})
            self._parts += parts
            self._done = checkpoint_after(items[-1].batch)
            self._write_manifest(finished=False)
        except (OSError, pa.ArrowException) as error:
            raise self._failed(error) from error

    def finish(self) -> None:
        """Write to the manifest that the replay is finished."""
        try:
            self._write_manifest(finished=True)
        except OSError as error:
            raise self._failed(error) from error

    def close(self) -> None:
        """Unlock the folder."""
        if self._lock_fd is not None:
            os.close(self._lock_fd)
        self._lock_fd = None

    def _lock(self) -> None:
        """Allow one replay at a time; the operating system releases the lock when the process ends."""
        self.close()
        self._lock_fd = os.open(self.path, os.O_RDONLY)
        try:
            fcntl.flock(self._lock_fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise ConfigError(
                f"{self.path}: another replay is writing to this folder; wait, or choose a new folder"
            ) from error

    def _read_manifest(self) -> Any:
        """The manifest; None for an empty folder."""
        path = self.path / MANIFEST
        if not path.exists():
            others = [each.name for each in self.path.iterdir()]
            if others:
                raise ConfigError(
                    f"{self.path} contains {others[0]} but no {MANIFEST}, so no replay wrote it; choose a new folder"
                )
            return None
        try:
            return json.loads(path.read_text())
        except ValueError as error:
            raise ConfigError(f"{path} is not a manifest ({error}); choose a new folder") from error

    def _check_plan(self, stored: ReplayPlan, plan: ReplayPlan) -> ReplayPlan:
        if not stored.is_same_request(plan):
            raise ConfigError(
                f"{self.path} contains another replay ({stored.name}: {stored.request}); remove the folder, or "
                "choose a new one"
            )
        return stored

    def _resume(self, manifest: dict[str, Any]) -> None:
        self._parts = manifest["parts"]
        self._done = None if manifest["done"] is None else Checkpoint.from_text(manifest["done"])
        self._number = len(self._parts)

    def _delete_parts(self, keep: set[str] | None = None) -> None:
        """Delete the files that the manifest does not list, and unfinished files."""
        for path in self.path.glob("*part-*.parquet*"):
            if path.name not in (keep or set()):
                path.unlink()

    def _write_part(self, name: str, batch: ChangeBatch) -> None:
        temporary = self.path / f".{name}.new"
        with open_new(temporary) as file:
            pq.write_table(pa.Table.from_batches([to_arrow(batch)]), file, compression="zstd")
        _replace(temporary, self.path / name)

    def _write_manifest(self, *, finished: bool) -> None:
        assert self._plan is not None
        record = {
            "plan": self._plan.to_text(),
            "changes": sum(part["changes"] for part in self._parts),
            "finished": finished,
            "done": None if self._done is None else self._done.to_text(),
            "parts": self._parts,
        }
        temporary = self.path / f".{MANIFEST}.new"
        with open_new(temporary) as file:
            file.write(json.dumps(record, indent=1).encode())
        _replace(temporary, self.path / MANIFEST)

    def _failed(self, error: Exception) -> SinkError:
        return SinkError(
            f"cannot write to {self.path}: {error}; check free space and permissions, then start the replay again"
        )


def read_parquet(path: str | Path) -> Iterator[ChangeBatch]:
    """The changes that a replay wrote, in order. Raises PositionError for a folder that no replay wrote.

    The column `seq` is not stored; it counts from 0 in each batch.
    """
    folder = Path(path)
    try:
        manifest = json.loads((folder / MANIFEST).read_text())
        names = [part["file"] for part in manifest["parts"]]
    except (OSError, ValueError, KeyError) as error:
        raise PositionError(f"{folder} does not contain a replay: {error!r}") from error
    for name in names:
        for batch in pq.read_table(folder / name).combine_chunks().to_batches():
            yield from_arrow(batch)


def _replace(temporary: Path, path: Path) -> None:
    """Rename the file to `path`, and sync the file and its folder to disk."""
    with temporary.open("rb") as file:
        os.fsync(file.fileno())
    temporary.replace(path)
    with suppress(OSError):  # not every file system can sync a folder
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)

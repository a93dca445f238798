"""A store of another kind for one of the three protocols: here checkpoints as JSON files, beside leases in memory."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from binlogsync.position import Checkpoint
from binlogsync.stores import CheckpointStore, Lease, PositionStore
from binlogsync.stores.lease import lease_lost_error
from binlogsync.stores.memory import MemoryBookmarks, MemoryLeases
from tests.stores.contract_checkpoints import CheckpointStoreContract, Claim, OpenCheckpoints


class JsonCheckpoints(CheckpointStore):
    """One file for each source. As the leases are elsewhere, it compares the epoch with that of the last save."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def load(self, source: str) -> Checkpoint | None:
        kept = self._read(source, "checkpoint")
        return None if kept is None else Checkpoint.from_text(json.dumps(kept["checkpoint"]))

    def save(self, lease: Lease, checkpoint: Checkpoint) -> None:
        kept = self._read(lease.source, "checkpoint")
        if kept is not None and kept["epoch"] > lease.epoch:
            raise lease_lost_error(lease, kept["owner"], kept["epoch"])
        record = {"owner": lease.owner, "epoch": lease.epoch, "checkpoint": json.loads(checkpoint.to_text())}
        self._file(lease.source, "checkpoint").write_text(json.dumps(record))

    def delete(self, lease: Lease) -> None:
        kept = self._read(lease.source, "checkpoint")
        if kept is not None and kept["epoch"] > lease.epoch:
            raise lease_lost_error(lease, kept["owner"], kept["epoch"])
        for kind in ("checkpoint", "facts"):
            self._file(lease.source, kind).unlink(missing_ok=True)

    def load_facts(self, source: str) -> str | None:
        kept = self._read(source, "facts")
        return None if kept is None else str(kept["text"])

    def save_facts(self, source: str, text: str) -> None:
        self._file(source, "facts").write_text(json.dumps({"text": text}))

    def _file(self, source: str, kind: str) -> Path:
        return self._folder / f"{kind}-{source.encode().hex()}.json"

    def _read(self, source: str, kind: str) -> dict[str, Any] | None:
        file = self._file(source, kind)
        return json.loads(file.read_text()) if file.exists() else None


class TestJsonCheckpoints(CheckpointStoreContract):
    @pytest.fixture
    def store(self, tmp_path: Path) -> PositionStore:
        return PositionStore(JsonCheckpoints(tmp_path), MemoryBookmarks(), MemoryLeases())

    @pytest.fixture
    def open_checkpoints(self, tmp_path: Path) -> OpenCheckpoints:
        return lambda: JsonCheckpoints(tmp_path)

    @pytest.fixture
    def claim(self, store: PositionStore) -> Claim:
        return lambda source, owner: store.leases.claim(source, owner, take_over=True)

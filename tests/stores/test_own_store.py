"""A store of another kind for one of the three protocols: here checkpoints as JSON files, beside leases in memory."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from binlogsync.errors import ConfigError
from binlogsync.position import Checkpoint
from binlogsync.settings import Settings
from binlogsync.stores import CheckpointStore, Lease, PositionStore
from binlogsync.stores.lease import lease_lost_error
from binlogsync.stores.memory import MemoryBookmarks, MemoryLeases
from dagster_binlogsync.component.connections import NatsServerOptions, PositionStoreOptions
from dagster_binlogsync.resources.from_settings import build_positions
from tests.stores.contract_checkpoints import AT, CheckpointStoreContract, Claim, OpenCheckpoints


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


def open_json_store() -> PositionStore:
    """The function that the setting BINLOGSYNC_POSITIONS names."""
    return PositionStore(JsonCheckpoints(Path(os.environ["JSON_STORE"])), MemoryBookmarks(), MemoryLeases())


def not_a_store() -> str:
    return "a text"


def _save_and_load(store: PositionStore) -> None:
    lease = store.leases.claim("main", "a test")
    store.checkpoints.save(lease, AT)
    assert store.checkpoints.load("main") == AT


def test_settings_name_the_function_that_opens_the_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BINLOGSYNC_POSITIONS", f"{__name__}:open_json_store")
    monkeypatch.setenv("JSON_STORE", str(tmp_path))
    settings = Settings.read(tmp_path)
    _save_and_load(settings.positions())
    with build_positions(settings).store() as store:
        _save_and_load(store)
    options = PositionStoreOptions(store=f"{__name__}:open_json_store")
    with options.build(NatsServerOptions(), tmp_path).store() as store:
        _save_and_load(store)


@pytest.mark.parametrize(
    ("reference", "told"),
    [
        ("sqlight", "use one of sqlite, redis, nats, or package.module:function"),
        ("no_such_package:open", "cannot be imported .No module named 'no_such_package'.*install the package"),
        (f"{__name__}:no_such_function", "cannot be imported"),
        (f"{__name__}:AT", "cannot be called without arguments .*name a function"),
        (f"{__name__}:_save_and_load", "cannot be called without arguments .missing a required argument: 'store'"),
        (f"{__name__}:not_a_store", "returned 'a text'; it must return a binlogsync.stores.PositionStore"),
    ],
)
def test_a_store_that_cannot_be_opened_says_why(
    reference: str, told: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BINLOGSYNC_POSITIONS", reference)
    with pytest.raises(ConfigError, match=told):
        Settings.read(tmp_path).positions()

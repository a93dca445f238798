"""The position store selected by the configuration, with its settings from the environment."""

from pathlib import Path

import dagster as dg
import pytest

from binlogsync import servers
from binlogsync.position import BinlogPosition, Checkpoint
from binlogsync.settings import Settings
from dagster_binlogsync.resources.from_settings import build_positions
from dagster_binlogsync.resources.positions import Positions, RedisPositionsConfig, SQLitePositionsConfig

CHECKPOINT = Checkpoint(BinlogPosition("binlog.000007", 4), "3e11fa47-71ca-11e1-9e33-c80aa9429562")


def keep_and_load(resource: Positions) -> None:
    @dg.op
    def use(positions: Positions) -> None:
        with positions.store() as store:
            store.checkpoints.save(store.leases.claim("main", "me"), CHECKPOINT)
        with positions.store() as store:
            assert store.checkpoints.load("main") == CHECKPOINT
            assert (lease := store.leases.load("main")) is not None
            assert lease.owner == "me"

    @dg.job
    def job() -> None:
        use()

    assert job.execute_in_process(resources={"positions": resource}).success


def test_sqlite(tmp_path: Path) -> None:
    keep_and_load(Positions(backend=SQLitePositionsConfig(path=str(tmp_path / "below" / "positions.db"))))


def test_sqlite_from_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BINLOGSYNC_POSITIONS_PATH", str(tmp_path / "p.db"))
    keep_and_load(build_positions(Settings.read()))
    assert (tmp_path / "p.db").exists()


def test_redis(redis_server: servers.RedisServer) -> None:
    keep_and_load(
        Positions(
            backend=RedisPositionsConfig(
                host=redis_server.host, port=redis_server.port, password=redis_server.password, prefix="resources"
            )
        )
    )


def test_nats_from_the_environment(nats_server: servers.NATSServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BINLOGSYNC_POSITIONS", "nats")
    monkeypatch.setenv("BINLOGSYNC_NATS_URL", nats_server.url)
    keep_and_load(build_positions(Settings.read()))


def test_redis_from_the_environment(redis_server: servers.RedisServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BINLOGSYNC_POSITIONS", "redis")
    monkeypatch.setenv("BINLOGSYNC_REDIS_HOST", redis_server.host)
    monkeypatch.setenv("BINLOGSYNC_REDIS_PORT", str(redis_server.port))
    monkeypatch.setenv("BINLOGSYNC_REDIS_PASSWORD", redis_server.password)
    keep_and_load(build_positions(Settings.read()))

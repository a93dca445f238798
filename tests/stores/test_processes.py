"""Position stores under kills in the middle of a save, and with several processes that save for one source.

A save is atomic, whether the saving process or the server is killed. Of processes that take over the lease from each
other, only the newest may save: the stored checkpoint never returns to an older epoch.
"""

from __future__ import annotations

import json
import random
import secrets
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest

from binlogsync import servers
from tests.forked import ForkedProcess
from tests.stores.process import CLAIMS, SAVES, open_store
from tests.waiting import wait_until

Given = Mapping[str, Any]


@pytest.fixture(
    params=["sqlite", pytest.param("redis", marks=pytest.mark.server), pytest.param("nats", marks=pytest.mark.server)]
)
def given(request: pytest.FixtureRequest, tmp_path: Path) -> Given:
    """The arguments with which a process opens the store."""
    name = f"t{secrets.token_hex(4)}"
    if request.param == "sqlite":
        return {"kind": "sqlite", "path": str(tmp_path / "positions.db")}
    if request.param == "redis":
        redis: servers.RedisServer = request.getfixturevalue("redis_server")
        return redis_of(redis, name)
    nats: servers.NATSServer = request.getfixturevalue("nats_server")
    return {"kind": "nats", "url": nats.url, "name": name}


def redis_of(server: servers.RedisServer, name: str) -> Given:
    return {"kind": "redis", "port": server.port, "password": server.password, "name": name}


@contextmanager
def process(request: Given) -> Iterator[ForkedProcess]:
    with ForkedProcess(
        "tests.stores.process",
        json.dumps(request),
        imports=(f"binlogsync.stores.{request['store']['kind']}",),
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    ) as child:
        yield child


def saved_until_killed(given: Given, number: int, kill: Callable[[ForkedProcess], None]) -> int:
    """Let a child process save several times, call `kill`, and return the last number whose save was confirmed."""
    with process({"store": given, "work": "save", "from": number}) as child:
        assert child.stdout is not None
        last = [int(child.stdout.readline()) for _ in range(random.randint(1, 15))][-1]
        threading.Event().wait(
            random.random() / 100
        )  # to any point of a save; the loop above is synchronous with saves
        kill(child)
        child.kill()
        rest = child.stdout.read().split("\n")[:-1]
    return int(rest[-1]) if rest else last


def assert_old_or_new(given: Given, acknowledged: int) -> int:
    """The stored checkpoint is complete: that of the last acknowledged save, or of the save in progress."""
    with closing(open_store(given)) as store:
        loaded = store.checkpoints.load("shop")
    assert loaded is not None
    assert loaded.position.pos == loaded.skip == loaded.ts_us
    assert loaded.position.pos in (acknowledged, acknowledged + 1)
    return loaded.position.pos


@pytest.mark.slow
def test_sigkill_during_a_save_leaves_the_old_checkpoint_or_the_new_one(given: Given) -> None:
    number = 0
    for _ in range(4 if given["kind"] == "sqlite" else 2):
        number = assert_old_or_new(given, saved_until_killed(given, number, lambda child: child.kill()))


@pytest.mark.slow
@pytest.mark.server
def test_a_server_that_is_killed_during_a_save_has_the_old_checkpoint_or_the_new_one() -> None:
    """With appendfsync always; otherwise the last second may be lost, which the sinks recover."""
    number = 0
    with servers.redis(options={"appendfsync": "always"}) as redis, servers.nats() as nats:
        stores = ((redis_of(redis, "killed"), redis), ({"kind": "nats", "url": nats.url, "name": "killed"}, nats))
        for given, server in stores:
            number = saved_until_killed(given, number, lambda _, server=server: server.kill())  # type: ignore[misc]
            server.start()
            number = assert_old_or_new(given, number)


@pytest.mark.slow
def test_of_processes_that_take_over_from_each_other_only_the_newest_saves(given: Given) -> None:
    owners = ("a", "b", "c")
    seen: list[tuple[int, int]] = []
    with closing(open_store(given)) as store:
        children = [process({"store": given, "work": "claim", "owner": owner}) for owner in owners]
        running = [child.__enter__() for child in children]
        wait_until(lambda: store.checkpoints.load("shop"), 60, "the first save")
        while any(child.poll() is None for child in running):
            loaded = store.checkpoints.load("shop")
            if loaded is not None:
                seen.append((loaded.position.file_number, loaded.position.pos))
            time.sleep(0.005)
        outputs = [child.stdout.read().split("\n")[:-1] for child in running if child.stdout is not None]
        last, lease = store.checkpoints.load("shop"), store.leases.load("shop")
    assert [child.returncode for child in running] == [0] * len(owners)
    saved = [[int(line.split()[0]) for line in lines] for lines in outputs]
    assert all(a.isdisjoint(b) for a, b in zip(map(set, saved), [set(each) for each in saved[1:]], strict=False))
    assert lease is not None
    assert last is not None
    assert lease.epoch == len(owners) * CLAIMS
    assert (last.position.file_number, last.position.pos) == (lease.epoch, 3 + SAVES)
    assert seen == sorted(seen)

"""A process that uses a position store, for kill and competition tests; its argument:

{"store": {...}, "work": "save", "from": 7}     saves numbered checkpoints in a loop, and prints the number of each
{"store": {...}, "work": "claim", "owner": "a"} takes over the lease in a loop, and saves under it
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from binlogsync.errors import LeaseLostError
from binlogsync.position import BinlogPosition, Checkpoint, GtidSet
from binlogsync.server_version import ServerFlavor
from binlogsync.stores import PositionStore

UUID = "3e11fa47-71ca-11e1-9e33-c80aa9429562"
CLAIMS, SAVES = 3, 3


def large_gtid_set() -> GtidSet:
    """A GTID set as of a long-lived cluster: 40 servers, each with 250 gaps."""
    members = {
        f"{server:08x}-71ca-11e1-9e33-c80aa9429562": tuple((10 * i + 1, 10 * i + 7) for i in range(251))
        for server in range(40)
    }
    return GtidSet(ServerFlavor.MYSQL, members)


def open_store(given: Mapping[str, Any]) -> PositionStore:
    """Open the described store."""
    if given["kind"] == "sqlite":
        from binlogsync.stores.sqlite import SQLitePositionStore

        return SQLitePositionStore(Path(given["path"]))
    if given["kind"] == "redis":
        from binlogsync.stores.redis import RedisOptions, RedisPositionStore

        return RedisPositionStore(RedisOptions(port=given["port"], password=given["password"], prefix=given["name"]))
    from binlogsync.nats.client import NatsOptions
    from binlogsync.stores.nats import NatsPositionStore

    return NatsPositionStore(NatsOptions(url=given["url"]), given["name"])


def save(store: PositionStore, number: int) -> None:
    """Save increasing numbers until the process is killed."""
    gtids, lease = large_gtid_set(), store.leases.claim("shop", "child", take_over=True)
    while True:
        number += 1
        store.checkpoints.save(lease, Checkpoint(BinlogPosition("binlog.000001", number), UUID, gtids, number, number))
        print(number, flush=True)  # noqa: T201


def claim(store: PositionStore, owner: str) -> None:
    """Claim and save in a loop; each save uses the epoch as file number. Prints what was saved."""
    for _ in range(CLAIMS):
        lease = store.leases.claim("shop", owner, take_over=True)
        try:
            for number in range(SAVES):
                store.checkpoints.save(lease, Checkpoint(BinlogPosition(f"binlog.{lease.epoch:06d}", 4 + number), UUID))
                print(lease.epoch, number, flush=True)  # noqa: T201
        except LeaseLostError:
            continue


def main(text: str) -> None:
    """Save checkpoints, or claim the lease; `text` is a JSON object with the store and what to do."""
    request = json.loads(text)
    if request["work"] == "save":
        save(open_store(request["store"]), request["from"])
    else:
        claim(open_store(request["store"]), request["owner"])

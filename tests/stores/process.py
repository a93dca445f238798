"""A process that uses a position store, for kill and competition tests: `python -m tests.stores.process '{...}'`.

{"store": {...}, "work": "save", "from": 7}     saves numbered checkpoints in a loop, and prints the number of each
{"store": {...}, "work": "claim", "owner": "a"} takes over the lease in a loop, and saves under it
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from binlogsync.errors import LeaseLostError
from binlogsync.nats.client import NatsOptions
from binlogsync.position import BinlogPosition, Checkpoint
from binlogsync.stores import PositionStore
from binlogsync.stores.nats import NatsPositionStore
from binlogsync.stores.redis import RedisOptions, RedisPositionStore
from binlogsync.stores.sqlite import SQLitePositionStore
from tests.stores.contract_checkpoints import UUID, large_gtid_set

CLAIMS, SAVES = 3, 3


def open_store(given: Mapping[str, Any]) -> PositionStore:
    """Open the described store."""
    if given["kind"] == "sqlite":
        return SQLitePositionStore(Path(given["path"]))
    if given["kind"] == "redis":
        return RedisPositionStore(RedisOptions(port=given["port"], password=given["password"], prefix=given["name"]))
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


if __name__ == "__main__":
    told = json.loads(sys.argv[1])
    if told["work"] == "save":
        save(open_store(told["store"]), told["from"])
    else:
        claim(open_store(told["store"]), told["owner"])

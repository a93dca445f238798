"""Finding the applied changes in a stream that was recreated from another server."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from binlogsync.consume.progress import ProgressKey, Tracker, progress_at
from binlogsync.consume.seek import DeliveryStart, drop_processed
from binlogsync.errors import ConsumeError
from binlogsync.nats.reader import StreamBatch
from binlogsync.schema import Column, TableSchema
from tests.samples import SERVER_UUID, SampleOptions, SampleSource, SampleTransaction

TABLE = TableSchema("shop", "orders", (Column("id", "bigint", unsigned=True),), ("id",))
OTHER = "00000000-0000-0000-0000-000000000001"
KEYS = (SERVER_UUID, SERVER_UUID, f"{SERVER_UUID}:blue", OTHER, OTHER)


def left(last: int, *, has_it: bool = True) -> list[int]:
    """Numbers of the redelivered changes, of five transactions of two changes each, if `last` was applied last."""
    transactions = [SampleTransaction((0, 0), key=key) for key in KEYS]
    batch = SampleSource(SampleOptions(tables=(TABLE,))).flush(transactions).batches[0]
    done = replace(progress_at(batch, last, 7, 7), server_uuid="mariadb:9", file="binlog.000099", epoch=1)
    tracker = Tracker(ProgressKey("me", "main", "shop", "orders"), done)
    given = batch if has_it else batch.slice(last + 1, len(batch))
    work = [StreamBatch(given, np.arange(1, len(given) + 1), None)]
    rest, _, dropped = drop_processed(work, DeliveryStart(1, drops_done=True), tracker)
    assert dropped + sum(len(each) for each in rest) == len(given)
    return [number for each in rest for number in each.batch.data.column("seq").to_pylist()]


@pytest.mark.parametrize("last", range(10))
def test_the_change_done_last_decides_whoever_wrote_it(last: int) -> None:
    assert left(last) == list(range(last + 1, 10))


def test_numbers_decide_where_it_is_not_there() -> None:
    with pytest.raises(ConsumeError, match="no GTID identifies the applied changes"):
        left(3, has_it=False)
    assert left(0, has_it=False) == list(range(1, 10))

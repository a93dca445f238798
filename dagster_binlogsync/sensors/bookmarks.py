"""The sensor `bookmarks_<source>`: registers each bookmark as a partition of the replay assets of the source.

Bookmarks are stored in the position store, by the tail and by users. The partition of a deleted bookmark is removed.
Partitions that a user added in the UI (a time, a position) are kept.
"""

import re
from collections.abc import Sequence

import dagster as dg

from binlogsync.bookmarks import Bookmark
from dagster_binlogsync.partitions import bookmark_partitions
from dagster_binlogsync.resource_keys import ResourceKeys
from dagster_binlogsync.resources.positions import Positions

_KEY = re.compile(r"[0-9]{8}T[0-9]{6}\.[0-9]{3}Z_")
SHOWN = 5


def build_bookmark_sensor(
    source: str, *, running: bool = False, interval_s: int = 15, keys: ResourceKeys | None = None
) -> dg.SensorDefinition:
    """The sensor `bookmarks_<source>`. `running` is its default status."""
    partitions, keys = bookmark_partitions(source), keys or ResourceKeys()
    assert partitions.name is not None

    @dg.sensor(
        name=partitions.name,
        minimum_interval_seconds=interval_s,
        default_status=dg.DefaultSensorStatus.RUNNING if running else dg.DefaultSensorStatus.STOPPED,
        description=f"Registers the bookmarks of {source} as partitions of its replay assets; removes deleted ones.",
        required_resource_keys=keys.require(("positions",)),
    )
    def _register(context: dg.SensorEvaluationContext) -> dg.SensorResult | dg.SkipReason:
        positions: Positions = keys.find(context).positions
        with positions.store() as store:
            bookmarks = store.bookmarks.load(source)
        known = context.instance.get_dynamic_partitions(str(partitions.name))
        return sync_partitions(partitions, known, bookmarks)

    return _register


def sync_partitions(
    partitions: dg.DynamicPartitionsDefinition, known: Sequence[str], bookmarks: Sequence[Bookmark]
) -> dg.SensorResult | dg.SkipReason:
    """The partitions to add and to remove."""
    keys = [bookmark.key for bookmark in bookmarks]
    new = sorted(set(keys) - set(known))
    gone = sorted(key for key in set(known) - set(keys) if _KEY.match(key))
    requests: list[dg.AddDynamicPartitionsRequest | dg.DeleteDynamicPartitionsRequest] = []
    if new:
        requests.append(partitions.build_add_request(new))
    if gone:
        requests.append(partitions.build_delete_request(gone))
    if not requests:
        return dg.SkipReason(f"all {len(keys)} bookmark(s) are registered as partitions")
    return dg.SensorResult(dynamic_partitions_requests=requests)

"""Numbers of changes by operation, as metadata that Dagster plots."""

from collections.abc import Mapping

import dagster as dg

OPERATIONS = {"c": "created", "u": "updated", "d": "deleted", "r": "read_by_snapshot", "t": "truncated"}


def count_metadata(counts: Mapping[str, int]) -> dict[str, dg.MetadataValue]:
    """Number of changes, in total and by operation.

    Snapshots and truncations are rare: shown only if there were any, to avoid plots of zeros.
    """
    shown = {name: counts.get(op, 0) for op, name in OPERATIONS.items() if counts.get(op) or op in "cud"}
    return {name: dg.MetadataValue.int(count) for name, count in {"changes": sum(counts.values()), **shown}.items()}

"""The metadata columns of a mirror: operation, commit time and GTID of the last change of each row, on request.

A row that was read from the server has the operation r, the time at which it was read, and no GTID; one that is deleted
by no row change (TRUNCATE, DROP, a load that does not find it) has the operation d, the time of that, and no GTID.
"""

from __future__ import annotations

from collections.abc import Sequence

import pyarrow as pa
import pyarrow.compute as pc

from binlogsync.change_batch import TIME_TYPE
from binlogsync.targets.duckdb.row_images import RowImages

METADATA_TYPES = {"_op": "VARCHAR", "_commit_ts": "TIMESTAMP WITH TIME ZONE", "_gtid": "VARCHAR"}
"""The DuckDB type of each of METADATA_COLUMNS."""
METADATA_ARROW_TYPES = {"_op": pa.string(), "_commit_ts": TIME_TYPE, "_gtid": pa.string()}


def metadata_arrays(part: RowImages, names: Sequence[str], image: str) -> list[pa.Array]:
    """The values of these columns for each change of the part; a row that only has a before image is deleted."""
    found: list[pa.Array] = []
    for name in names:
        if name == "_op":
            is_deleted = image != "after"
            count, ops = len(part.ops), part.batch.data.column("op")
            found.append(pa.repeat(pa.scalar("d"), count) if is_deleted else ops.cast(pa.string()))
        elif name == "_commit_ts":
            found.append(part.batch.data.column("ts_us").cast(TIME_TYPE))
        else:
            # The GTID of a row that a snapshot has published names the snapshot.
            gtids = part.batch.data.column("gtid").cast(pa.string())
            found.append(pc.if_else(pa.array(part.mask("r")), pa.scalar(None, pa.string()), gtids))
    return found


def metadata_names(names: Sequence[str]) -> list[str]:
    """Names of the columns by position (m0, m1, ...), which need no quoting."""
    return [f"m{i}" for i in range(len(names))]


def constant_metadata(names: Sequence[str], op: str, at_us: int) -> list[str]:
    """The values of these columns as SQL, for rows that no row change has changed; microseconds since 1970 UTC."""
    values = {"_op": f"'{op}'", "_commit_ts": f"make_timestamptz({at_us})", "_gtid": "NULL"}
    return [values[name] for name in names]

"""Finds accepted gaps of a stream: changes that MySQL had purged, and that the operator accepted as lost.

A range that contains a gap cannot be read completely from the stream.
"""

from __future__ import annotations

import json

from binlogsync.nats.gap_messages import read_gap_texts
from binlogsync.nats.reader import StreamReader
from binlogsync.position import Checkpoint
from binlogsync.position_order import compare
from binlogsync.replay.ranges import ReplayRange


def find_gap(reader: StreamReader, range_: ReplayRange) -> str:
    """A description of the first gap in the range; "" if there is none.

    Reads the headers of all messages on the checkpoint subject. Raises SinkError.
    """
    for text in read_gap_texts(reader):
        gap = json.loads(text)
        start, end = (Checkpoint.from_text(json.dumps(gap[name])) for name in ("from", "to"))
        # If the order of the positions is unknown, the gap counts as inside the range.
        if compare(range_.start, end).may_be_before and compare(start, range_.until).may_be_before:
            return f"from {start} to {end} ({gap['reason']}): {gap['missing']}"
    return ""

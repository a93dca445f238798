"""Tells whether a tail wrote a message of its stream, from the headers and the sequence of the message. Pure.

A tail knows from its fence at which sequence a message will be stored, and writes that into the checkpoint. A copy of a
message (published again by a bridge or an operator, headers included) is detected because its sequence is another one.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from binlogsync.codec.envelope import CHECKPOINT, has_tail_header
from binlogsync.errors import PositionError
from binlogsync.position import Checkpoint

BATCH_ID = "Nats-Batch-Id"
MOST_WITHOUT_CHECKPOINT = 1000
"""Maximum number of consecutive messages of a tail without a checkpoint: the messages of an atomic batch."""
_SEQUENCE = re.compile(r'"sequence":([0-9]{1,20})\}\Z')  # as Checkpoint.to_text ends


def is_tail_message(headers: Mapping[str, str], sequence: int) -> bool:
    """True for a message that the tail has stored at this sequence, as far as its headers show.

    A checkpoint of an older version does not contain its sequence, nor does a message within an atomic batch.
    """
    if CHECKPOINT not in headers:
        return BATCH_ID in headers and has_tail_header(headers)
    match = _SEQUENCE.search(headers[CHECKPOINT])
    return match is None or int(match[1]) == sequence


def tail_checkpoint(headers: Mapping[str, str], sequence: int) -> Checkpoint | None:
    """The checkpoint of a tail's message; None if it has no valid checkpoint, or is a copy."""
    if CHECKPOINT not in headers or not is_tail_message(headers, sequence):
        return None
    try:
        return Checkpoint.from_text(headers[CHECKPOINT])
    except PositionError:
        return None

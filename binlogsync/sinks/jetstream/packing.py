"""How changes are packed into messages and publish units."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Format = Literal["json", "arrow"]


@dataclass(frozen=True, slots=True)
class PackingOptions:
    """How changes are packed into messages.

    Attributes:
        format: "json" or "arrow".
        changes_per_message: largest number of changes in a message, for "json".
        max_unit_bytes: of one atomic batch.
        max_message_bytes: of a message with several changes; one change may be larger.
        max_singles: largest number of changes in an eager flush (`json`, one change a message) whose messages are units
            by themselves.
    """

    format: Format = "json"
    changes_per_message: int = 1
    max_unit_bytes: int = 16 << 20
    max_message_bytes: int = 900_000
    max_singles: int = 0

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
        as_singles: whether each change is a message, and each message a unit by itself: for a small flush in `json`.
    """

    format: Format = "json"
    changes_per_message: int = 1
    max_unit_bytes: int = 16 << 20
    max_message_bytes: int = 900_000
    as_singles: bool = False

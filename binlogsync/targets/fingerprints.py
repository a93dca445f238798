"""Fingerprints of a mirror: the keys and row hashes of its table at a requested position (duckdb/fingerprints.py)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from binlogsync.position import Checkpoint
from binlogsync.schema import TableSchema

if TYPE_CHECKING:
    import pyarrow as pa


@dataclass(frozen=True, slots=True)
class FingerprintRequest:
    """A request for the fingerprint of a mirror at `at`; `id` names the request and the table of the fingerprint."""

    id: str
    at: Checkpoint


@dataclass(frozen=True, slots=True)
class Fingerprint:
    """The schema (None without a table) and the fingerprint of a mirror at the requested position."""

    schema: TableSchema | None
    rows: pa.Table

"""Which tables a snapshot for one consumer publishes: those that it reads. Pure."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING

from binlogsync.errors import ConfigError

if TYPE_CHECKING:
    from binlogsync.nats.snapshot_readers import Readers

Table = tuple[str, str]
_MOST_NAMED = 10


def check_consumer(client_id: str, readers: Readers) -> Collection[Table]:
    """The tables of a consumer. Raises ConfigError if it is not known."""
    if client_id not in readers:
        raise ConfigError(
            f"no consumer {client_id!r} reads the stream; those that do are: {_join(sorted(readers)) or 'none'}. A "
            "consumer is known from its first run on, until nats-server is restarted or it has not run for 14 days: "
            "start it, then request the snapshot again"
        )
    return readers[client_id]


def choose_tables(client_id: str, matched: Mapping[str, Sequence[Table]], readers: Readers) -> Sequence[Table]:
    """The tables that the consumer reads among those that match the patterns of the request.

    Args:
        client_id: of the consumer.
        matched: pattern -> captured tables that match it.
        readers: the consumers of the stream.

    Raises ConfigError if the consumer is not known, or reads no table that matches one of the patterns.
    """
    own = set(check_consumer(client_id, readers))
    for pattern, tables in matched.items():
        if own.isdisjoint(tables):
            raise ConfigError(
                f"consumer {client_id!r} reads no captured table that matches {pattern}; it reads: "
                f"{_join(sorted('.'.join(table) for table in own))}"
            )
    return sorted(own & {table for tables in matched.values() for table in tables})


def _join(names: Sequence[str]) -> str:
    more = f" and {len(names) - _MOST_NAMED} more" if len(names) > _MOST_NAMED else ""
    return ", ".join(names[:_MOST_NAMED]) + more

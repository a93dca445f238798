"""The events of a consumer run as an iterator to which metadata can be added, as in other Dagster integrations."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import dagster as dg

from dagster_binlogsync.consume.execution import ConsumerEvent
from dagster_binlogsync.consume.metadata import TablePreview, column_metadata, table_metadata
from dagster_binlogsync.consume.spec import ConsumerSpec

Describe = Callable[[ConsumerSpec], Mapping[str, Any]]


class BinlogsyncEventIterator(Iterator[ConsumerEvent]):
    """Materializations and check results of a run, in the order in which they happen."""

    def __init__(self, events: Iterator[ConsumerEvent], consumers: Sequence[ConsumerSpec], resources: Any) -> None:
        """`events` are those of the consumers; `resources` has their warehouse."""
        self._events, self._consumers, self._resources = events, consumers, resources

    def __next__(self) -> ConsumerEvent:
        return next(self._events)

    def __iter__(self) -> "BinlogsyncEventIterator":
        return self

    def fetch_row_count(self) -> "BinlogsyncEventIterator":
        """The same events, with the number of rows in the warehouse as `dagster/row_count`."""
        return self._add(
            lambda consumer: (
                table_metadata(self._resources.warehouse, TablePreview(consumer.shows, 0)) if consumer.shows else {}
            )
        )

    def fetch_column_metadata(self) -> "BinlogsyncEventIterator":
        """The same events, with the columns of mirrors, as MySQL declares them, as `dagster/column_schema`."""
        return self._add(lambda consumer: column_metadata(self._resources.warehouse, consumer))

    def _add(self, describe: Describe) -> "BinlogsyncEventIterator":
        by_key = {consumer.asset_key: consumer for consumer in self._consumers}

        def described() -> Iterator[ConsumerEvent]:
            for event in self._events:
                if isinstance(event, dg.MaterializeResult) and event.asset_key in by_key:
                    added = describe(by_key[event.asset_key])
                    event = event._replace(metadata={**(event.metadata or {}), **added})
                yield event

        return BinlogsyncEventIterator(described(), self._consumers, self._resources)

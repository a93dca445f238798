"""TYPE_SAMPLES: for every type, values as SQL literals. The tests of types, and of README's type table, use it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from tests.binlog.exact.documents import DOCUMENTS
from tests.binlog.exact.numbers import NUMBERS
from tests.binlog.exact.rare import RARE
from tests.binlog.exact.strings import STRINGS
from tests.binlog.exact.temporal import TEMPORAL
from tests.binlog.exact.type_sample import TypeSample

TYPE_SAMPLES: tuple[TypeSample, ...] = (*NUMBERS, *STRINGS, *TEMPORAL, *DOCUMENTS, *RARE)
_MOST_COLUMNS = 16
_MOST_BYTES = 30_000


def tables(server: str, unlike: str = "") -> Iterator[tuple[TypeSample, ...]]:
    """The samples that a server supports, and another one does not, divided into tables of several columns."""
    ordered = sorted(TYPE_SAMPLES, key=lambda sample: (sample.old, len(sample.literals)))
    chosen: list[TypeSample] = []
    for sample in (sample for sample in ordered if server in sample.servers and unlike not in sample.servers):
        if chosen and not _fits(chosen, sample):
            yield tuple(chosen)
            chosen = []
        chosen.append(sample)
    yield tuple(chosen)


def _fits(chosen: Sequence[TypeSample], sample: TypeSample) -> bool:
    width = sum(other.width for other in chosen) + sample.width
    return len(chosen) < _MOST_COLUMNS and chosen[-1].old == sample.old and width < _MOST_BYTES

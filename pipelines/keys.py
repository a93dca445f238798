"""Names in Dagster for names in MySQL; pure.

A table has one asset key in each of three groups, so that the lineage reads from left to right:

    mysql/<source>/<database>/<table>     the table itself      (external)
    nats/<source>/<database>/<table>      its subject           (external, materialised by the tail)
    tables/<source>/<database>/<table>    its consumer          (materialised by consumer runs)

Dagster allows letters, digits and _ in names of ops and jobs; MySQL allows nearly anything. So key parts are sanitised,
with a hash of the name behind where that loses something, and the real names are kept in metadata.
"""

import hashlib
import re
from dataclasses import dataclass

import dagster as dg

from binlogsync.errors import ConfigError
from binlogsync.escaping import markdown
from binlogsync.wire.subjects import parse_table

_UNSAFE = re.compile(r"[^A-Za-z0-9_]")


def safe_part(name: str) -> str:
    """The name with every character that Dagster refuses replaced by _."""
    return _UNSAFE.sub("_", name)


def table_part(name: str) -> str:
    """A name of MySQL's, with a hash behind where it has characters that Dagster refuses, so that names stay apart."""
    safe = safe_part(name)
    return safe if safe == name else f"{safe}_{_digest(name)}"


def _digest(*names: str) -> str:
    return hashlib.sha256("\0".join(names).encode()).hexdigest()[:8]


@dataclass(frozen=True, slots=True)
class TableName:
    """A table of a source, by its real names."""

    source: str
    database: str
    table: str

    @classmethod
    def parse(cls, text: str, source: str) -> "TableName":
        """Read "database.table"; the table may hold further dots. Raises ConfigError."""
        return cls(source, *parse_table(text))

    def __str__(self) -> str:
        return f"{self.database}.{self.table}"

    @property
    def markdown(self) -> str:
        """For descriptions, which Dagster shows as Markdown."""
        return markdown(str(self))

    @property
    def parts(self) -> tuple[str, str, str]:
        """Sanitised source, database and table."""
        return safe_part(self.source), table_part(self.database), table_part(self.table)

    @property
    def joined(self) -> str:
        """The parts in one name, with a hash behind where it does not tell the parts."""
        joined = "__".join(self.parts)
        is_clear = joined.count("__") == 2 and not any(part.strip("_") != part for part in self.parts)
        return joined if is_clear else f"{joined}_{_digest(*self.parts)}"

    @property
    def mysql_key(self) -> dg.AssetKey:
        """Of the table in MySQL."""
        return dg.AssetKey(["mysql", *self.parts])

    @property
    def stream_key(self) -> dg.AssetKey:
        """Of its subject in JetStream."""
        return dg.AssetKey(["nats", *self.parts])

    @property
    def consumer_key(self) -> dg.AssetKey:
        """Of its consumer."""
        return dg.AssetKey(["tables", *self.parts])

    @property
    def job_name(self) -> str:
        """Of the job for this table alone."""
        return f"consume__{self.joined}"

    @property
    def run_tag(self) -> str:
        """Its name in the tag binlogsync/consumer."""
        return f"{self.source}.{self}"


def binlog_key(source: str) -> dg.AssetKey:
    """Of the source's binary log, where the tail's observations go."""
    return dg.AssetKey(["mysql", safe_part(source), "binlog"])


def refuse_collisions(names: list[TableName]) -> None:
    """Raise ConfigError when two tables would get one key or one job name, naming both."""
    for what in ("consumer_key", "job_name"):
        seen: dict[object, TableName] = {}
        for name in names:
            other = seen.setdefault(getattr(name, what), name)
            if other is not name:
                raise ConfigError(
                    f"{other} and {name} of source {name.source} both become {name.job_name} in Dagster; "
                    "keep one of them, or consume the other outside of Dagster with binlogsync.Consumer"
                    if other != name
                    else f"{name} of source {name.source} has two consumers; remove one from pipelines/consumers"
                )

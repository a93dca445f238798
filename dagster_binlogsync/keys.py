"""Dagster names for MySQL names; pure functions.

A table has four asset keys, which form its lineage:

    mysql/<source>/<database>/<table>     the table itself      (external)
    nats/<source>/<database>/<table>      its subject           (external, materialized by the tail)
    tables/<source>/<database>/<table>    its consumer          (materialized by consumer runs)
    replay/<source>/<database>/<table>    its replay            (materialized by backfills)

Names of ops and jobs in Dagster consist of letters, digits and _; MySQL allows nearly all characters. Other characters
are replaced by _, and a hash of the original name is appended. The original names are in the metadata of the assets.
"""

import hashlib
import re
from dataclasses import dataclass

import dagster as dg

from binlogsync.codec.subjects import parse_table
from binlogsync.errors import ConfigError
from binlogsync.escaping import markdown

_UNSAFE = re.compile(r"[^A-Za-z0-9_]")


def safe_part(name: str) -> str:
    """The name, with _ for each character that Dagster does not allow."""
    return _UNSAFE.sub("_", name)


def table_part(name: str) -> str:
    """A MySQL name as part of a Dagster name. A hash keeps names apart that differ only in replaced characters."""
    safe = safe_part(name)
    return safe if safe == name else f"{safe}_{_digest(name)}"


def _digest(*names: str) -> str:
    return hashlib.sha256("\0".join(names).encode()).hexdigest()[:8]


@dataclass(frozen=True, slots=True)
class TableName:
    """A table of a source, by its MySQL names."""

    source: str
    database: str
    table: str

    @classmethod
    def parse(cls, text: str, source: str) -> "TableName":
        """Parse "database.table"; the table name may contain dots. Raises ConfigError."""
        return cls(source, *parse_table(text))

    def __str__(self) -> str:
        return f"{self.database}.{self.table}"

    @property
    def markdown(self) -> str:
        """The name escaped for descriptions, which Dagster renders as Markdown."""
        return markdown(str(self))

    @property
    def parts(self) -> tuple[str, str, str]:
        """Source, database and table, as parts of Dagster names."""
        return safe_part(self.source), table_part(self.database), table_part(self.table)

    @property
    def joined(self) -> str:
        """The parts in one name, with a hash where the name alone would be ambiguous."""
        joined = "__".join(self.parts)
        is_clear = joined.count("__") == 2 and not any(part.strip("_") != part for part in self.parts)
        return joined if is_clear else f"{joined}_{_digest(*self.parts)}"

    @property
    def mysql_key(self) -> dg.AssetKey:
        """Asset key of the table in MySQL."""
        return dg.AssetKey(["mysql", *self.parts])

    @property
    def stream_key(self) -> dg.AssetKey:
        """Asset key of the subject in JetStream."""
        return dg.AssetKey(["nats", *self.parts])

    @property
    def consumer_key(self) -> dg.AssetKey:
        """Asset key of the consumer."""
        return dg.AssetKey(["tables", *self.parts])

    @property
    def replay_key(self) -> dg.AssetKey:
        """Asset key of the replay."""
        return dg.AssetKey(["replay", *self.parts])

    @property
    def job_name(self) -> str:
        """Name of the job that consumes only this table."""
        return f"consume__{self.joined}"

    @property
    def run_tag(self) -> str:
        """Value of the tag binlogsync/consumer."""
        return f"{self.source}.{self}"


def binlog_key(source: str) -> dg.AssetKey:
    """Asset key of the binary log of the source, which the tail observes."""
    return dg.AssetKey(["mysql", safe_part(source), "binlog"])


def tail_job_name(source: str) -> str:
    """Name of the job that tails the source."""
    return f"tail_{safe_part(source)}"


def tail_sensor_name(source: str) -> str:
    """Name of the sensor that keeps the tail of the source alive."""
    return f"keep_{safe_part(source)}_tailed"


def tail_alive_key(source: str) -> dg.AssetCheckKey:
    """Key of the check `tail_alive` of the binlog asset of the source."""
    return dg.AssetCheckKey(binlog_key(source), "tail_alive")


def consume_job_name(source: str) -> str:
    """Name of the job that consumes any tables of the source, and of the sensor that requests its runs."""
    return f"consume_{safe_part(source)}"


def continuous_job_name(source: str) -> str:
    """Name of the job that keeps all consumers of the source live."""
    return f"consume_{safe_part(source)}_continuously"


def continuous_sensor_name(source: str) -> str:
    """Name of the sensor that keeps the run of that job alive."""
    return f"keep_{safe_part(source)}_consumed"


def consumers_key(source: str) -> dg.AssetKey:
    """Asset key of all consumers of the source, which the continuous run observes."""
    return dg.AssetKey(["tables", safe_part(source), "consumers"])


def consumers_lease(source: str) -> str:
    """Name of the lease of the continuous run in the position store; no source has such a name."""
    return f"{source}.consumers"


def check_collisions(names: list[TableName]) -> None:
    """Raise ConfigError if two tables would have the same asset key or job name."""
    for what in ("consumer_key", "job_name"):
        seen: dict[object, TableName] = {}
        for name in names:
            other = seen.setdefault(getattr(name, what), name)
            if other is not name:
                raise ConfigError(
                    f"{other} and {name} of source {name.source} both become {name.job_name} in Dagster; "
                    "keep one of them, or consume the other outside of Dagster with binlogsync.Consumer"
                    if other != name
                    else f"{name} of source {name.source} has two consumers; remove one of them"
                )

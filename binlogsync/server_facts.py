"""Version and settings of a source when it was last tailed: saved in the position store and compared at the next start.

A changed setting explains rows that look different from earlier ones; another server explains a position in another
log. Pure values.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from binlogsync.mysql import ServerInfo
from binlogsync.text_format import time_of_us

WATCHED = (
    "binlog_format",
    "binlog_row_image",
    "binlog_row_metadata",
    "binlog_row_value_options",
    "binlog_transaction_compression",
    "log_bin_compress",
    "binlog_checksum",
    "gtid_mode",
    "server_id",
    "binlog_expire_logs_seconds",
    "max_binlog_total_size",
    "binlog_space_limit",
    "lower_case_table_names",
)


@dataclass(frozen=True, slots=True)
class ServerFacts:
    """One server at one time.

    Attributes:
        server_uuid, version: of it.
        settings: global variables of WATCHED that it has.
        at_us: when it was inspected, microseconds since 1970 UTC.
    """

    server_uuid: str
    version: str
    settings: Mapping[str, str]
    at_us: int

    @classmethod
    def of(cls, info: ServerInfo, now_s: float) -> ServerFacts:
        """The current facts of a server."""
        settings = {name: info.variables[name] for name in WATCHED if name in info.variables}
        return cls(info.server_uuid, info.version, settings, int(now_s * 1e6))

    def changes_since(self, before: ServerFacts) -> list[str]:
        """One sentence for each difference; a different server_id of another server is not reported."""
        moved = before.server_uuid != self.server_uuid
        changes = [f"the server is {self.server_uuid}, it was {before.server_uuid}"] if moved else []
        if self.version != before.version:
            changes.append(f"its version is {self.version}, it was {before.version}")
        for name in WATCHED:
            now, then = self.settings.get(name), before.settings.get(name)
            if now != then and not (moved and name == "server_id"):
                changes.append(f"{name} is {_shown(now)}, it was {_shown(then)}")
        return changes

    @property
    def at(self) -> datetime:
        """When the server was inspected."""
        return time_of_us(self.at_us)

    def to_text(self) -> str:
        """One line of JSON, the form kept in stores."""
        record = {"server": self.server_uuid, "version": self.version, "settings": dict(self.settings)}
        return json.dumps({**record, "at_us": self.at_us}, separators=(",", ":"))

    @classmethod
    def from_text(cls, text: str | None) -> ServerFacts | None:
        """Read what to_text wrote; None for unreadable text, which only skips the comparison."""
        try:
            record = json.loads(text or "")
            settings = {str(name): str(value) for name, value in record["settings"].items()}
            return cls(str(record["server"]), str(record["version"]), settings, int(record["at_us"]))
        except (ValueError, KeyError, TypeError, AttributeError):
            return None


def _shown(value: str | None) -> str:
    return "unknown to it" if value is None else value or "empty"

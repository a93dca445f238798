"""What a source was like when it was last tailed: kept in the position store, compared when it is looked at again.

A setting that was changed meanwhile explains rows that look different from those before; another server explains a
position of another place. Pure values.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

from binlogsync.mysql import ServerInfo

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
        at_us: when it was looked at, microseconds since 1970 UTC.
    """

    server_uuid: str
    version: str
    settings: Mapping[str, str]
    at_us: int

    @classmethod
    def of(cls, info: ServerInfo, now_s: float) -> ServerFacts:
        """As it is now."""
        settings = {name: info.variables[name] for name in WATCHED if name in info.variables}
        return cls(info.server_uuid, info.version, settings, int(now_s * 1e6))

    def changes_since(self, before: ServerFacts) -> list[str]:
        """What is different, a sentence each; the id of another server is no change."""
        moved = before.server_uuid != self.server_uuid
        said = [f"the server is {self.server_uuid}, it was {before.server_uuid}"] if moved else []
        if self.version != before.version:
            said.append(f"its version is {self.version}, it was {before.version}")
        for name in WATCHED:
            now, then = self.settings.get(name), before.settings.get(name)
            if now != then and not (moved and name == "server_id"):
                said.append(f"{name} is {_shown(now)}, it was {_shown(then)}")
        return said

    @property
    def at(self) -> datetime:
        """When it was looked at."""
        return datetime.fromtimestamp(self.at_us / 1e6, UTC)

    def to_text(self) -> str:
        """One line of JSON, the form kept in stores."""
        record = {"server": self.server_uuid, "version": self.version, "settings": dict(self.settings)}
        return json.dumps({**record, "at_us": self.at_us}, separators=(",", ":"))

    @classmethod
    def from_text(cls, text: str | None) -> ServerFacts | None:
        """Read what to_text wrote; None for what cannot be read, which is only a comparison less."""
        try:
            record = json.loads(text or "")
            settings = {str(name): str(value) for name, value in record["settings"].items()}
            return cls(str(record["server"]), str(record["version"]), settings, int(record["at_us"]))
        except (ValueError, KeyError, TypeError, AttributeError):
            return None


def _shown(value: str | None) -> str:
    return "unknown to it" if value is None else value or "empty"

"""binlogsync: change data capture from MySQL's binary log, exactly once into NATS JetStream and DuckDB.

What a consumer needs is here: `from binlogsync import Change, Consumer`. Each name is imported when it is first used.
"""

from __future__ import annotations

import importlib

TYPE_CHECKING = False  # as typing has it, without the time to import that
if TYPE_CHECKING:
    from typing import Any

    from binlogsync.change import Change as Change
    from binlogsync.change import Op as Op
    from binlogsync.change import SourceInfo as SourceInfo
    from binlogsync.consume.deduplication import RedisSeenIds as RedisSeenIds
    from binlogsync.consume.deduplication import SeenIds as SeenIds
    from binlogsync.consume.retry import Retry as Retry
    from binlogsync.consumer import Consumer as Consumer
    from binlogsync.errors import BinlogSyncError as BinlogSyncError
    from binlogsync.errors import ClientTakenError as ClientTakenError
    from binlogsync.errors import ConsumeError as ConsumeError
    from binlogsync.errors import HandlerError as HandlerError
    from binlogsync.errors import ModelError as ModelError
    from binlogsync.errors import TargetBusyError as TargetBusyError
    from binlogsync.targets.duckdb.reading import open_warehouse as open_warehouse

_HOMES = {
    "Change": "change",
    "Op": "change",
    "SourceInfo": "change",
    "Consumer": "consumer",
    "BinlogSyncError": "errors",
    "ClientTakenError": "errors",
    "ConsumeError": "errors",
    "HandlerError": "errors",
    "ModelError": "errors",
    "TargetBusyError": "errors",
    "open_warehouse": "targets.duckdb.reading",
    "Retry": "consume.retry",
    "RedisSeenIds": "consume.deduplication",
    "SeenIds": "consume.deduplication",
}
__all__ = [*_HOMES]  # noqa: PLE0604


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOMES])

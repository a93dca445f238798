"""A process that consumes two tables and is killed: a handler of `samples`, and a mirror of `notes`.

It waits for a line of input before it stores something, and prints a line afterwards.
"""

from __future__ import annotations

import sys
import threading
from pathlib import Path
from typing import Any

from binlogsync.consume.engine import ConsumeOptions, consume
from binlogsync.consume.handler import Handler
from binlogsync.consume.targets import Target
from binlogsync.mirror.target import Mirror
from binlogsync.nats.client import NatsOptions
from binlogsync.nats.reader import StreamReader
from tests.consume.test_consume import SampleRow, record


class ReportingTarget(Target):
    """Another target, with the lines."""

    def __init__(self, target: Target) -> None:
        self.target, self.store = target, target.store

    def take(self, *arguments: Any) -> None:
        sys.stdin.readline()
        self.target.take(*arguments)
        print("stored", flush=True)  # noqa: T201


def main(url: str, source: str, path: str) -> None:
    """Consume both tables."""
    file = Path(path)
    with StreamReader(NatsOptions(url=url), source) as reader:
        for table, target in (
            ("samples", Handler(SampleRow, record, file)),
            ("notes", Mirror(file, "shop", "notes")),
        ):
            options = ConsumeOptions(max_changes=7, gather_s=0, idle_s=0.2)
            consume(reader, ("shop", table), ReportingTarget(target), options, threading.Event())

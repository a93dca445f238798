"""Case files: SQL statements, each followed by the expected envelopes, as comments.

    -- servers: mysql, mariadb
    CREATE TABLE t (id INT PRIMARY KEY, e ENUM('a', 'b'));
    INSERT INTO t VALUES (1, 'b');
    -- -> {"op": "c", "after": {"id": 1, "e": "b"}}

An expected envelope has op, before, after and "json_null"; images that are null are omitted. `python -m
tests.binlog.case_files` updates each file with the envelopes of its first server; review the diff before committing it.
"""

from __future__ import annotations

import json
import re
from bisect import bisect_left
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from binlogsync import servers
from binlogsync.codec.envelope import EnvelopeContext, render
from binlogsync.servers.database import DatabaseServer
from tests.binlog.dump import end_of_log, record
from tests.binlog.rendered_images import compare_rendered, packet_ends
from tests.databases import FreshDatabase, fresh_database

FOLDER = Path(__file__).parents[1] / "cases"
_ARROW = "-- -> "


@dataclass(frozen=True, slots=True)
class CaseStep:
    """A statement and its expected envelopes."""

    sql: str
    expected: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class SqlCase:
    """A case file."""

    path: Path
    servers: tuple[str, ...]
    steps: tuple[CaseStep, ...]


def load_cases() -> list[SqlCase]:
    """Load all files, in order of name."""
    return [load(path) for path in sorted(FOLDER.glob("*.sql"))]


def load(path: Path) -> SqlCase:
    """Load a file; a statement ends with a line that ends in a semicolon."""
    text = path.read_text()
    header = re.search(r"^-- servers: (.*)$", text, re.MULTILINE)
    assert header, f"{path.name} names no servers"
    steps: list[CaseStep] = []
    lines: list[str] = []
    for line in text.splitlines():
        if line.startswith(_ARROW):
            steps[-1] = CaseStep(steps[-1].sql, (*steps[-1].expected, line.removeprefix(_ARROW)))
        elif line and not line.startswith("--"):
            lines.append(line)
            if line.endswith(";"):
                steps.append(CaseStep("\n".join(lines).removesuffix(";"), ()))
                lines = []
    assert not lines, f"{path.name} ends inside a statement"
    return SqlCase(path, tuple(header[1].split(", ")), tuple(steps))


def parse(text: str) -> dict[str, Any]:
    """Parse an envelope, with fractions as text, so that 0.1 and 0.10 differ."""
    envelope: dict[str, Any] = json.loads(text, parse_float=str)
    return envelope


def run(database: FreshDatabase, case: SqlCase) -> list[tuple[CaseStep, list[str]]]:
    """Execute the statements; returns each with its envelopes, in the format of the files."""
    database.execute("SET NAMES utf8mb4")
    start = end_of_log(database.server)
    ends: list[int] = []
    for step in case.steps:
        database.execute(step.sql)
        ends.append(end_of_log(database.server).position.pos)
    recording = record(database.server, start, lambda name, table: name == database.name)
    compare_rendered(recording, packet_ends(recording.raw))
    done = recording.decoded()
    if done.error is not None:
        raise done.error
    made: list[list[str]] = [[] for _ in ends]
    for batch in (batch for decoded_range in done.ranges for batch in decoded_range.batches):
        if batch.schema.columns:  # a schema change has none
            positions = batch.data.column("pos").to_pylist()
            for text, pos in zip(render(batch, EnvelopeContext("cases", 0)).texts(), positions, strict=True):
                made[bisect_left(ends, pos)].append(brief(text))
    return list(zip(case.steps, made, strict=True))


def brief(text: bytes) -> str:
    """The part of an envelope that a case file contains."""
    whole = text.decode()
    envelope = json.loads(whole)
    # The images are copied from the text, not encoded again, so that numbers keep their digits.
    parts = ['"op": ' + json.dumps(envelope["op"])]
    images = whole.partition(',"source":')[0].removeprefix('{"before":')
    before, _, after = images.partition(',"after":') if not images.startswith("{") else _split(images)
    parts += [f'"{name}": {image}' for name, image in (("before", before), ("after", after)) if image != "null"]
    if "json_null" in envelope["source"]:
        parts.append('"json_null": ' + json.dumps(envelope["source"]["json_null"]))
    return "{" + ", ".join(parts) + "}"


def _split(images: str) -> tuple[str, str, str]:
    """Split the images when `before` is an object."""
    _, end = json.JSONDecoder().raw_decode(images)
    return images[:end], "", images[end:].removeprefix(',"after":')


def _write(database: FreshDatabase, case: SqlCase) -> None:
    delivered = iter(run(database, case))
    lines: list[str] = []
    for line in case.path.read_text().splitlines():
        if line.startswith(_ARROW):
            continue
        lines.append(line)
        if line.endswith(";") and not line.startswith("--"):
            lines += [_ARROW + envelope for envelope in next(delivered)[1]]
    case.path.write_text("\n".join(lines) + "\n")


def main() -> None:
    """Update the expected envelopes in all files."""
    with ExitStack() as stack:
        running: dict[str, DatabaseServer] = {
            "mysql": stack.enter_context(servers.mysql()),
            "mariadb": stack.enter_context(servers.mariadb()),
        }
        for case in load_cases():
            with fresh_database(running[case.servers[0]]) as database:
                _write(database, case)


if __name__ == "__main__":
    main()

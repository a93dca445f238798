"""Mirrors tables again and again, to be killed: `python -m tests.e2e.mirror_process '{"nats": ..., "tables": ...}'`."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from tests.e2e.tailing import mirror


def main(text: str) -> None:
    """For ever."""
    given = json.loads(text)
    while True:
        for table in given["tables"]:
            mirror(given["nats"], given["source"], Path(given["path"]), (given["database"], table))


if __name__ == "__main__":
    main(sys.argv[1])

"""Mirrors tables in a loop until it is killed: `python -m tests.e2e.mirror_process '{"nats": ..., "tables": ...}'`."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from tests.e2e.tailing import mirror


def main(text: str) -> None:
    """Run until killed."""
    arguments = json.loads(text)
    while True:
        for table in arguments["tables"]:
            mirror(arguments["nats"], arguments["source"], Path(arguments["path"]), (arguments["database"], table))


if __name__ == "__main__":
    main(sys.argv[1])

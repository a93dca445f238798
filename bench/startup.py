"""`python -m bench.startup`: measures how long an import, the command line's help and a tail's imports take, as ratios
to an interpreter that does nothing, and the memory of a tail after its imports.

The ratios are of the best times of one run, in which all are interleaved: a busy machine changes times, not ratios.
"""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

_TIMES = 7
_NOTHING = "nothing"
_TAIL = """
from binlogsync.cli import main as cli
cli._keep_pandas_out()
import binlogsync.cli.tail, binlogsync.settings
"""
_RSS = _TAIL + "print(open('/proc/self/status').read().partition('VmRSS:')[2].split()[0])"
_PROGRAMS = {
    _NOTHING: ["-c", "pass"],
    "import binlogsync": ["-c", "import binlogsync"],
    "binlogsync --help": ["-m", "binlogsync.cli", "--help"],
    "imports of binlogsync tail": ["-c", _TAIL],
}


def measure_startup() -> dict[str, float]:
    """The best time of each program, in seconds."""
    best = dict.fromkeys(_PROGRAMS, float("inf"))
    for _ in range(_TIMES):
        for name, arguments in _PROGRAMS.items():
            begun = time.perf_counter()
            _run(arguments)
            best[name] = min(best[name], time.perf_counter() - begun)
    return best


def measure_tail_memory() -> float:
    """Resident memory in MB of a process that has imported all that a tail uses."""
    return int(_run(["-c", _RSS])) / 1024


def _run(arguments: list[str]) -> str:
    root = Path(__file__).parents[1]
    command = [sys.executable, *arguments]
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, cwd=root).stdout


def main() -> None:
    """Print the table."""
    best = measure_startup()
    for name, seconds in best.items():
        sys.stdout.write(f"  {name:30}{seconds:8.3f} s{seconds / best[_NOTHING]:8.2f} x\n")
    sys.stdout.write(f"  memory after the imports of a tail: {measure_tail_memory():.0f} MB\n")


if __name__ == "__main__":
    main()

"""The commands of `make` targets, by dry runs."""

import os
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.mark.parametrize(("arguments", "port"), [(["PORT=3999"], "--port 3999"), ([], "")])
def test_the_demo_uses_the_given_port(arguments: list[str], port: str) -> None:
    clean = {name: value for name, value in os.environ.items() if name not in ("PORT", "MAKEFLAGS", "MAKEOVERRIDES")}
    done = subprocess.run(
        ["make", "--dry-run", "demo", *arguments], cwd=ROOT, env=clean, capture_output=True, text=True, check=True
    )
    command = next(line for line in done.stdout.replace("\\\n", "").splitlines() if "-m pipelines.demo" in line)
    assert ("--port" in command) is bool(port)
    assert port in command

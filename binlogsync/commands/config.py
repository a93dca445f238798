"""`binlogsync config import FILE`: the Go tool's JSON configuration into a `.env`; says what became of each key."""

from __future__ import annotations

import os
import sys
from argparse import Namespace
from pathlib import Path

from binlogsync.commands.output import say
from binlogsync.errors import ConfigError
from binlogsync.foreign.config import read_config, to_dotenv
from binlogsync.settings import Settings


def run(settings: Settings, arguments: Namespace) -> int:
    """Do it; the file is for its owner's eyes only, and one that is there stays. Raises ConfigError."""
    lines = read_config(read_text(arguments.file))
    path = Path(arguments.output)
    text = to_dotenv(lines)
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError as error:
        raise ConfigError(f"{path} is there already; move it away, or write to another with --output") from error
    except OSError as error:
        raise ConfigError(f"{path} cannot be written: {error.strerror}; choose another with --output") from error
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(text)
    for line in lines:
        say(str(line))
    say(f"written to {path}; look at .env.example for what else there is, then run: binlogsync doctor")
    return 0


def read_text(place: str) -> str:
    """The file, or stdin for "-". Raises ConfigError."""
    try:
        return sys.stdin.read() if place == "-" else Path(place).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{place} cannot be read: {error}") from error

"""`binlogsync config import FILE`: converts the Go tool's JSON configuration to a `.env` file, key by key."""

from __future__ import annotations

import os
import sys
from argparse import Namespace
from pathlib import Path

from binlogsync.cli.output import write_message
from binlogsync.errors import ConfigError
from binlogsync.migrate.config import read_config, to_dotenv
from binlogsync.settings import Settings


def run(settings: Settings, arguments: Namespace) -> int:
    """Write the file, readable by its owner only; an existing file is not replaced. Raises ConfigError."""
    keys = read_config(read_text(arguments.file))
    path: Path = arguments.output
    text = to_dotenv(keys)
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError as error:
        raise ConfigError(f"{path} already exists; move it away, or choose another file with --output") from error
    except OSError as error:
        raise ConfigError(f"{path} cannot be written: {error.strerror}; choose another file with --output") from error
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(text)
    for key in keys:
        write_message(str(key))
    write_message(f"written to {path}; see .env.example for all settings, then run: binlogsync doctor")
    return 0


def read_text(path: Path) -> str:
    """The file, or stdin for "-". Raises ConfigError."""
    try:
        return sys.stdin.read() if str(path) == "-" else path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} cannot be read: {error}") from error

"""`binlogsync config show`: the effective settings. `binlogsync config import FILE`: converts the Go tool's JSON
configuration to a `.env` file, key by key."""

from __future__ import annotations

import json
import os
import sys
from argparse import Namespace
from pathlib import Path

from binlogsync.cli.output import write_line, write_message
from binlogsync.errors import ConfigError
from binlogsync.escaping import printable
from binlogsync.migrate.config import read_config, to_dotenv
from binlogsync.settings import Settings
from binlogsync.settings.load import shown


def run(settings: Settings, arguments: Namespace) -> int:
    """Run the action. Raises ConfigError."""
    if arguments.action == "show":
        _show(settings, as_json=arguments.json)
        settings.check()
    else:
        _import(arguments)
    return 0


def _show(settings: Settings, *, as_json: bool) -> None:
    """Print every setting: its value, and where it was set. Secrets are hidden."""
    rows = [(setting, shown(setting, value), settings.origins.get(setting.path)) for setting, value in settings.items()]
    if as_json:
        entries = [
            {
                "key": setting.key,
                "variable": setting.variable,
                "value": value or None,
                "origin": found.layer if found else "default",
                "where": found.where if found else "default",
                "is_secret": setting.is_secret,
                "allowed": setting.allowed,
                "description": setting.field.description,
            }
            for setting, value, found in rows
        ]
        write_line(json.dumps(entries, indent=2, ensure_ascii=False))
        return
    names = max(len(setting.variable) for setting, _, _ in rows)
    values = max(len(printable(value)) for _, value, _ in rows)
    for setting, value, found in rows:
        where = f"{found.where}" if found else "default"
        write_line(f"{setting.variable:<{names}}  {printable(value):<{values}}  {where}")


def _import(arguments: Namespace) -> None:
    """Write the file, readable by its owner only; an existing file is not replaced."""
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


def read_text(path: Path) -> str:
    """The file, or stdin for "-". Raises ConfigError."""
    try:
        return sys.stdin.read() if str(path) == "-" else path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} cannot be read: {error}") from error

"""A `.env` file as `dagster dev` reads it: KEY=VALUE lines, comments, quotes. Pure.

Blank lines and lines that begin with # are ignored, and so is `export ` before a name. After an unquoted value, " #"
begins a comment. A backslash escapes quotes and itself, in double quotes also n, r and t. Syntax that other readers
of .env files interpret differently (multi-line values, ${NAME}) is refused. No error message contains a value.
"""

from __future__ import annotations

import re

from binlogsync.errors import ConfigError

_LINE = re.compile(r"(?:export\s+)?(?P<name>[A-Za-z_]\w*)\s*=[ \t]*(?P<value>.*)")
_DOUBLE = re.compile(r'"(?P<text>(?:\\.|[^"\\])*)"\s*(?:#.*)?')
_SINGLE = re.compile(r"'(?P<text>(?:\\.|[^'\\])*)'\s*(?:#.*)?")
_ESCAPED = {"n": "\n", "r": "\r", "t": "\t"}


def parse_dotenv(text: str, path: str = ".env") -> dict[str, str]:
    """The variables; the last value of a repeated name counts. Raises ConfigError naming `path` and the line."""
    found: dict[str, str] = {}
    for number, line in enumerate(re.split(r"\r\n|\n|\r", text), 1):
        line = line.strip()
        if not line or line.startswith("#"):
            continue
        match = _LINE.fullmatch(line)
        if match is None:
            raise ConfigError(f"{path}, line {number}: neither NAME=value nor a comment")
        try:
            found[match["name"]] = _value(match["value"])
        except ValueError as error:
            raise ConfigError(f"{path}, line {number}: {match['name']}: {error}") from error
    return found


def _value(written: str) -> str:
    """The value after the = sign; raises ValueError with the reason if it is invalid."""
    if "${" in written:
        raise ValueError("${...} is not expanded; write the value itself")
    if not written.startswith(("'", '"')):
        return re.sub(r"(?:^|\s+)#.*", "", written).rstrip()
    is_double = written.startswith('"')
    match = (_DOUBLE if is_double else _SINGLE).fullmatch(written)
    if match is None:
        raise ValueError("the closing quote is missing or not at the end of the line; a value must be on one line")
    return re.sub(r"\\(.)", lambda escape: _unescaped(escape, is_double), match["text"])


def _unescaped(escape: re.Match[str], is_double: bool) -> str:
    character = escape[1]
    if character in "\\'" or (is_double and character == '"'):
        return character
    return _ESCAPED.get(character, escape[0]) if is_double else escape[0]

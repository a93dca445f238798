"""Applies the differences that PARTIAL_JSON logs to a JSON document in MySQL's binary format.

With binlog_row_value_options=PARTIAL_JSON an update is logged as a list of differences: replace, insert or remove at a
path. Only the containers on the path are parsed; all other bytes are copied.

Sources: Json_diff_vector::read_binary in sql-common/json_diff.cc, Field_json::... apply_json_diffs in
sql-common/json_dom.cc; the format comment of sql-common/json_binary.h; Json_path::to_string in
sql-common/json_path.cc.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from struct import error as StructError
from struct import pack, unpack_from
from typing import Any

from binlogsync.binlog.bytes import ByteReader

_REPLACE, _INSERT, _REMOVE = range(3)
_LARGE_OBJECT, _LARGE_ARRAY = 1, 3
_INLINED = {4: 1, 5: 2, 6: 2, 7: 4, 8: 4}  # types that a container may store in the value entry, and their size
_INLINED_SMALL = frozenset({4, 5, 6})
_FIXED = {**_INLINED, 9: 8, 10: 8, 11: 8}
_LEG = re.compile(r'\.(?:"((?:[^"\\]|\\.)*)"|([^.\[\]"]+))|\[(?:(\d+)|last(?:-(\d+))?)\]')

Leg = bytes | int  # a member's name, or an element's number: negative counts from the last, -1


@dataclass(frozen=True, slots=True)
class _Scalar:
    """A value, or a container that has not been parsed, as bytes of the document."""

    kind: int
    data: bytes


@dataclass(slots=True)
class _Object:
    """A parsed object; `members` are in the order of the document."""

    members: dict[bytes, _Node]


@dataclass(slots=True)
class _Array:
    """A parsed array."""

    elements: list[_Node]


_Node = _Scalar | _Object | _Array


def apply_diffs(document: bytes, diffs: bytes) -> bytes:
    """The document with the differences applied, in binary format. Raises ValueError when they do not apply to it."""
    reader = ByteReader(diffs)
    root: _Node = _Scalar(document[0], document[1:]) if document else _Scalar(4, b"\0")
    try:
        while reader.left:
            operation = reader.integer(1)
            path = reader.string(reader.packed()).decode()
            value = reader.string(reader.packed()) if operation != _REMOVE else b"\4\0"
            legs = _legs(path)
            if not legs or not value:
                raise ValueError(f"an invalid JSON difference at {path!r}")
            root = _taken_apart(root)
            _apply(operation, root, legs, _Scalar(value[0], value[1:]), path)
        kind, data = _written(root)
    except (IndexError, StructError, UnicodeDecodeError) as error:
        raise ValueError(f"not binary JSON: {error}") from error
    return bytes([kind]) + data


def _legs(path: str) -> list[Leg]:
    """The steps of a path such as $.a[0]."last name"."""
    legs: list[Leg] = []
    at = 1 if path.startswith("$") else 0
    while at < len(path):
        match = _LEG.match(path, at)
        if match is None:
            raise ValueError(f"{path!r} is not a JSON path")
        quoted, plain, number, from_last = match.groups()
        if quoted is not None:
            legs.append(str(json.loads(f'"{quoted}"')).encode())
        elif plain is not None:
            legs.append(plain.encode())
        else:
            legs.append(int(number) if number is not None else -1 - int(from_last or 0))
        at = match.end()
    return legs


def _apply(operation: int, root: _Node, legs: list[Leg], value: _Node, path: str) -> None:
    """Apply one difference to the document."""
    parent = root
    for leg in legs[:-1]:
        parent = _child(parent, leg, path)
    leg = legs[-1]
    if operation == _INSERT:
        _insert(parent, leg, value, path)
    elif operation == _REPLACE:
        _child(parent, leg, path)
        _put(parent, leg, value)
    elif operation == _REMOVE:
        _child(parent, leg, path)
        del _children(parent)[leg]
    else:
        raise ValueError(f"unknown operation {operation} in a JSON difference")


def _child(parent: _Node, leg: Leg, path: str) -> _Node:
    """The member or element, parsed."""
    if isinstance(parent, _Object) and isinstance(leg, bytes) and leg in parent.members:
        child = _taken_apart(parent.members[leg])
    elif isinstance(parent, _Array) and isinstance(leg, int) and -len(parent.elements) <= leg < len(parent.elements):
        child = _taken_apart(parent.elements[leg])
    else:
        raise ValueError(f"the JSON difference at {path} does not apply to the value before the update")
    _put(parent, leg, child)
    return child


def _put(parent: _Node, leg: Leg, value: _Node) -> None:
    _children(parent)[leg] = value


def _children(parent: _Node) -> Any:
    """Set a member or element of a parsed container."""
    return parent.members if isinstance(parent, _Object) else parent.elements if isinstance(parent, _Array) else {}


def _insert(parent: _Node, leg: Leg, value: _Node, path: str) -> None:
    if isinstance(parent, _Object) and isinstance(leg, bytes) and leg not in parent.members:
        members = {**parent.members, leg: value}
        # MySQL keeps members in the order of their names' lengths, then bytes.
        parent.members = {name: members[name] for name in sorted(members, key=lambda name: (len(name), name))}
    elif isinstance(parent, _Array) and isinstance(leg, int):
        parent.elements.insert(leg if leg >= 0 else len(parent.elements) + 1 + leg, value)
    else:
        raise ValueError(f"the JSON difference at {path} does not apply to the value before the update")


def _taken_apart(node: _Node) -> _Node:
    """Parse a container so that its children can be changed; returns any other node unchanged."""
    if not isinstance(node, _Scalar) or node.kind > _LARGE_ARRAY:
        return node
    data, is_large = node.data, node.kind in (_LARGE_OBJECT, _LARGE_ARRAY)
    number, width = ("<I", 4) if is_large else ("<H", 2)
    count: int = unpack_from(number, data, 0)[0]
    if count > len(data):
        raise ValueError(f"binary JSON names {count} members in {len(data)} bytes")
    entry, names = 2 * width, []
    if node.kind <= _LARGE_OBJECT:
        for _ in range(count):
            names.append(_slice(data, unpack_from(number, data, entry)[0], *unpack_from("<H", data, entry + width)))
            entry += width + 2
    values = [_entry(data, entry + i * (width + 1), is_large) for i in range(count)]
    if node.kind <= _LARGE_OBJECT:
        return _Object(dict(zip(names, values, strict=True)))
    return _Array(values)


def _entry(data: bytes, at: int, is_large: bool) -> _Node:
    """The child whose value entry is at `at`."""
    kind = data[at]
    if kind in (_INLINED if is_large else _INLINED_SMALL):
        return _Scalar(kind, _slice(data, at + 1, _INLINED[kind]))
    start: int = unpack_from("<I" if is_large else "<H", data, at + 1)[0]
    return _Scalar(kind, _slice(data, start, _size(kind, data, start)))


def _size(kind: int, data: bytes, at: int) -> int:
    """Bytes of the value of that kind at `at`."""
    if kind in _FIXED:
        return _FIXED[kind]
    if kind <= _LARGE_ARRAY:
        return int(unpack_from("<I", data, at + 4)[0] if kind in (1, 3) else unpack_from("<H", data, at + 2)[0])
    begin = at + (kind == 15)  # an opaque value begins with its type
    size = 0
    for i in range(5):
        byte = data[begin + i]
        size |= (byte & 0x7F) << (7 * i)
        if not byte & 0x80:
            return begin + i + 1 + size - at
    raise ValueError("binary JSON has a length of more than five bytes")


def _slice(data: bytes, start: int, size: int) -> bytes:
    if start + size > len(data):
        raise ValueError("binary JSON ends inside a value")
    return data[start : start + size]


def _written(node: _Node) -> tuple[int, bytes]:
    """(type, bytes) of a node; containers in the large format, which has room for any content."""
    if isinstance(node, _Scalar):
        return node.kind, node.data
    names = list(node.members) if isinstance(node, _Object) else []
    children = list(node.members.values()) if isinstance(node, _Object) else node.elements
    at = 8 + 6 * len(names) + 5 * len(children)
    head = bytearray()
    tail = bytearray()
    for name in names:
        head += pack("<IH", at + len(tail), len(name))
        tail += name
    for child in children:
        kind, data = _written(child)
        if kind in _INLINED:
            head += bytes([kind]) + data.ljust(4, b"\0")
        else:
            head += pack("<BI", kind, at + len(tail))
            tail += data
    kind = _LARGE_OBJECT if isinstance(node, _Object) else _LARGE_ARRAY
    return kind, pack("<II", len(children), at + len(tail)) + bytes(head + tail)

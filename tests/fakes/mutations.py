"""Seeded changes to good requests: of HTTP's text, of JSON's structure, of protobuf's fields, and of plain bytes."""

from __future__ import annotations

import copy
import json
import random
from typing import Any, Dict, Iterator, List, Tuple

NUMBERS = [0, -1, 1, 2**31 - 1, 2**31, 2**32, 2**62 + 1, 2**63 - 1, 2**63, 2**64 - 1, 2**64, 10**30, 10**400, -(2**63)]
FRACTIONS = [0.5, -0.0, 1e308, 5e-324, float("nan"), float("inf"), -float("inf")]
TEXTS = [
    "",
    "x",
    "y",
    "FP32",
    "nope",
    "\0",
    "\r\nX: y",
    "\ud800",
    "\u202e",
    "é" * 300,
    "[" * 200,
    "../x",
    "%s%n",
    "n" * 5000,
]
NESTED: List[Any] = [
    [],
    {},
    [[]],
    [None],
    {"": None},
    [[1, 2], [3]],
    [1, "a", None, True, {}],
    {"parameters": {"x": []}},
]
VALUES: List[Any] = [*NUMBERS, *FRACTIONS, *TEXTS, *NESTED, None, True, False]
RAW_VALUES = [
    b"1e400",
    b"-0",
    b"01",
    b"1.",
    b"[" * 150 + b"]" * 150,
    b'"\xff"',
    b'"\xed\xa0\x80"',
    b"9" * 5000,
    b"\\u0000",
]
HEADERS = [
    ("Content-Encoding", "gzip"),
    ("Content-Encoding", "gzip, gzip"),
    ("Content-Encoding", "deflate"),
    ("Accept-Encoding", "gzip;q=x, *"),
    ("Transfer-Encoding", "chunked"),
    ("Transfer-Encoding", "chunked, identity"),
    ("Content-Length", "18446744073709551616"),
    ("Content-Length", "+3"),
    ("Expect", "100-continue"),
    ("Expect", "nothing"),
    ("Connection", "upgrade"),
    ("Upgrade", "h2c"),
    ("Host", "y"),
    ("Inference-Header-Content-Length", "0"),
    ("Inference-Header-Content-Length", "99999999999999999999"),
    ("Inference-Header-Content-Length", "-1"),
    ("X", "y" * 20_000),
    ("Bad name", "x"),
    ("Nul", "a\0b"),
    ("Folded", "a\r\n b"),
]
TARGETS = [
    "*",
    "/",
    "//",
    "/v2/",
    "/v2/../v2",
    "/%",
    "/%00",
    "/v2/models/%2e%2e",
    "http://[::1/v2",
    "/v2?x=%ff&",
    "/v2#x",
]
METHODS = ["GET", "POST", "PUT", "HEAD", "OPTIONS", "DELETE", "CONNECT", "get", "BREW", "P\0ST", ""]


def changed_bytes(data: bytes, rng: random.Random) -> bytes:
    """The bytes with one to four small changes."""
    changed = bytearray(data)
    for _ in range(rng.randint(1, 4)):
        at = rng.randrange(len(changed) + 1)
        span = rng.choice((1, 1, 1, 4, 30))
        kind = rng.randrange(5)
        if kind == 0:
            changed[at : at + span] = rng.getrandbits(8 * span).to_bytes(span, "little")
        elif kind == 1:
            del changed[at : at + span]
        elif kind == 2:
            changed[at:at] = rng.choice((b"\r\n", b"\0", b"-1", b"9" * 20, b'"', b"[", b"\xff", b"{}", b", "))
        elif kind == 3:
            changed[at:at] = changed[at : at + span]
        else:
            changed[at : at + 1] = bytes([changed[at] ^ (1 << rng.randrange(8))]) if at < len(changed) else b""
    return bytes(changed)


def changed_json(content: Any, rng: random.Random) -> bytes:
    """A JSON text with one to three of its values replaced, left out, repeated or wrapped, and perhaps broken."""
    root = {"": copy.deepcopy(content)}
    for _ in range(rng.randint(1, 3)):
        holder, key = rng.choice(list(_places(root)))
        kind = rng.randrange(8)
        if kind < 5:
            holder[key] = copy.deepcopy(rng.choice(VALUES))
        elif kind == 5 and holder is not root:
            del holder[key]
        elif kind == 6 and isinstance(holder, list):
            holder.insert(key, holder[key])
        else:
            holder[key] = [holder[key]] if rng.randrange(2) else {"": holder[key]}
    text = json.dumps(root.get("")).encode()
    kind = rng.randrange(12)
    if kind == 0:
        return b"\xef\xbb\xbf" + text
    if kind == 1:
        return text.replace(b'"name"', b'"name": 1, "name"', 1)
    if kind == 2:
        return text.replace(rng.choice((b"1", b"4", b'"x"')), rng.choice(RAW_VALUES), 1)
    return text[: rng.randrange(len(text))] if kind == 3 else text


def _places(value: Any) -> Iterator[Tuple[Any, Any]]:
    for key, item in value.items() if isinstance(value, dict) else enumerate(value):
        yield value, key
        if isinstance(item, (dict, list)):
            yield from _places(item)


def changed_request(method: str, target: str, body: bytes, rng: random.Random) -> bytes:
    """An HTTP request whose method, target, headers or framing are changed, none of them, or several."""
    headers: List[Tuple[str, str]] = [("Host", "x"), ("Content-Length", str(len(body)))]
    if rng.randrange(4) == 0:
        method = rng.choice(METHODS)
    if rng.randrange(4) == 0:
        target = rng.choice((*TARGETS, target + "/" + rng.choice(TARGETS), target * 50))
    for _ in range(rng.randrange(3)):
        headers.insert(rng.randrange(len(headers) + 1), rng.choice(HEADERS))
    if rng.randrange(8) == 0:
        headers = [(name, "x") for name in ("A",) * 200]
    lines = "".join(f"{name}: {value}\r\n" for name, value in headers)
    data = f"{method} {target} HTTP/1.1\r\n{lines}\r\n".encode("latin-1", "replace") + body
    return changed_bytes(data, rng) if rng.randrange(4) == 0 else data


def changed_message(message: Any, rng: random.Random) -> Any:
    """A protobuf message with one to three of its fields set to something else, repeated or left out, at any depth."""
    changed = copy.deepcopy(message)
    for _ in range(rng.randint(1, 3)):
        holders = list(_messages(changed))
        if not holders:
            break
        holder = rng.choice(holders)
        field = rng.choice(list(holder.DESCRIPTOR.fields))
        if _is_map(field):
            entry = getattr(holder, field.name)
            _change(rng.choice([entry[name] for name in (*entry, rng.choice(_PARAMETERS))]), rng)
        elif hasattr(getattr(holder, field.name), "append") or hasattr(getattr(holder, field.name), "add"):
            _change_list(getattr(holder, field.name), field, rng)
        else:
            _change(holder, rng, field)
    return changed


_PARAMETERS = ("priority", "timeout", "deadline_ms", "period_ms", "stream", "sequence_id", "binary_data", "x" * 500)


def _is_map(field: Any) -> bool:
    return field.message_type is not None and field.message_type.GetOptions().map_entry


def _messages(message: Any) -> Iterator[Any]:
    if message.DESCRIPTOR.fields:
        yield message
    for field, value in message.ListFields():
        if field.message_type is None:
            continue
        if _is_map(field):
            yield from (value[key] for key in value)
        elif hasattr(value, "add"):
            for item in value:
                yield from _messages(item)
        else:
            yield from _messages(value)


def _change(holder: Any, rng: random.Random, field: Any = None) -> None:
    field = field or rng.choice(list(holder.DESCRIPTOR.fields))
    if rng.randrange(5) == 0:
        holder.ClearField(field.name)
    elif field.message_type is not None:
        getattr(holder, field.name).SetInParent()
    else:
        setattr(holder, field.name, _value(field, rng))


def _change_list(values: Any, field: Any, rng: random.Random) -> None:
    if len(values) and rng.randrange(3) == 0:
        del values[rng.randrange(len(values)) :]
    elif field.message_type is not None:
        values.add() if not len(values) else values.append(values[0])
    else:
        values.extend([_value(field, rng)] * rng.choice((1, 1, 2, 40)))


def _value(field: Any, rng: random.Random) -> Any:
    """A value that the field can hold, the odder the better."""
    kind: Dict[int, Any] = {
        field.CPPTYPE_STRING: TEXTS if field.type == field.TYPE_STRING else [b"", b"\xff" * 16, bytes(17)],
        field.CPPTYPE_BOOL: [True, False],
        field.CPPTYPE_DOUBLE: FRACTIONS,
        field.CPPTYPE_FLOAT: FRACTIONS,
    }
    limits = {
        field.CPPTYPE_INT32: (-(2**31), 2**31),
        field.CPPTYPE_UINT32: (0, 2**32),
        field.CPPTYPE_INT64: (-(2**63), 2**63),
        field.CPPTYPE_UINT64: (0, 2**64),
        field.CPPTYPE_ENUM: (0, 2),
    }
    if field.cpp_type in limits:
        least, end = limits[field.cpp_type]
        return rng.choice([number for number in NUMBERS if least <= number < end])
    values = [value for value in kind[field.cpp_type] if value != "\ud800"]
    return rng.choice(values)


def changed_frames(frames: List[bytes], rng: random.Random) -> bytes:
    """The frames with some left out, doubled, swapped or changed, heads and payloads alike."""
    changed = [bytearray(each) for each in frames]
    for _ in range(rng.randint(1, 4)):
        at = rng.randrange(len(changed))
        kind = rng.randrange(6)
        if kind == 0 and len(changed) > 1:
            del changed[at]
        elif kind == 1:
            changed.insert(at, bytearray(changed[at]))
        elif kind == 2:
            changed.insert(rng.randrange(len(changed)), changed.pop(at))
        elif changed[at]:
            byte = rng.randrange(min(9, len(changed[at]))) if kind == 3 else rng.randrange(len(changed[at]))
            changed[at][byte] = rng.getrandbits(8) if kind < 5 else changed[at][byte] ^ (1 << rng.randrange(8))
    return b"".join(changed)

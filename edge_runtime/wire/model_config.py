"""Triton's `config.pbtxt`: its message, and where each of its fields is written."""

from __future__ import annotations

import base64
import json
from collections import Counter
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any, List, Sequence, Tuple, Union

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory, text_format

from edge_runtime.errors import ConfigError
from edge_runtime.wire.model_config_descriptors import DESCRIPTOR_SET

LIMIT_NBYTES = 256 << 10
_LONGEST_LINE = 16 << 10  # every message about a token has its line in it
Place = Tuple[int, int]
_FALSE = ("false", "False", "f", "0")
_STRING = "TYPE_STRING"  # the one type that the protocol calls otherwise: BYTES
_BRACKETS = (("{", "}"), ("<", ">"))


@dataclass(frozen=True)
class ConfigField:
    """A field as it is written: `path` such as `input[0].dims` or `parameters["key"]`, its line, its value's text.

    `is_default` says whether the value is what the field has when it isn't written; `is_message` that others are in it.
    """

    path: str
    line: int
    text: str = ""
    is_default: bool = False
    is_message: bool = False


@dataclass(frozen=True)
class ModelConfig:
    """A parsed configuration: the message, its fields in the order of the file, and those that Triton doesn't have."""

    message: Any
    fields: Tuple[ConfigField, ...] = ()
    unknown: Tuple[ConfigField, ...] = ()

    def line(self, path: str) -> int | None:
        """Where a field is written first, or one below it; None if it isn't."""
        return next((field.line for field in self.fields if is_at(field.path, path)), None)


def empty_model_config() -> ModelConfig:
    """What a model has that comes without a configuration."""
    return ModelConfig(_message_class()())


def parse_model_config(data: bytes, name: str) -> ModelConfig:
    """The configuration in a file's bytes; `name` is the file's, for messages.

    Raises:
        ConfigError: over 256 KiB, not UTF-8, a line of over 16 KiB, or not a text-format message of Triton's types.
    """
    if len(data) > LIMIT_NBYTES:
        raise ConfigError(f"{name}: over {LIMIT_NBYTES:,} bytes; expected a model configuration")
    try:
        text = data.decode()
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise ConfigError(f"{name}:{line}: not UTF-8 text (byte 0x{data[error.start]:02x}); save it as UTF-8") from None
    message = _message_class()()
    lines = text.split("\n")
    if max(map(len, lines)) > _LONGEST_LINE:
        raise ConfigError(f"{name}: a line of over {_LONGEST_LINE:,} characters; break it into several")
    walk = _Walk(text_format.Tokenizer(lines))
    try:
        walk.message(message.DESCRIPTOR, "", "")
        text_format.Parse("\n".join(_without(lines, walk.skipped)), message)
    except text_format.ParseError as error:
        raise ConfigError(f"{name}:{_problem(error)}") from None
    except RecursionError:
        raise ConfigError(f"{name}: nested too deeply; expected a model configuration") from None
    return ModelConfig(message, tuple(walk.fields), tuple(walk.unknown))


def dtype_name(tensor: Any) -> str:
    """The protocol's name for a tensor's type, "" where the configuration leaves it out."""
    kind = tensor.DESCRIPTOR.fields_by_name["data_type"].enum_type.values_by_number.get(tensor.data_type)
    if kind is None:
        return f"type {tensor.data_type}"  # an enumeration of proto3 takes any number
    if kind.name == _STRING:
        return "BYTES"
    return "" if kind.number == 0 else str(kind.name[len("TYPE_") :])


def is_at(path: str, parent: str) -> bool:
    """Whether a field is the one at `parent`, or in it."""
    return path == parent or (path.startswith(parent) and path[len(parent)] in ".[")


def _without(lines: Sequence[str], places: Sequence[Tuple[Place, Place]]) -> List[str]:
    """The lines with blanks for what is between two places, which lie behind one another."""
    kept: List[Union[str, List[str]]] = list(lines)
    for (first, begin), (last, end) in places:
        for index in range(first, last + 1):
            letters = kept[index - 1]
            if isinstance(letters, str):
                letters = kept[index - 1] = list(letters)
            start = begin - 1 if index == first else 0
            stop = end - 1 if index == last else len(letters)
            letters[start:stop] = " " * (stop - start)
    return ["".join(line) for line in kept]


def _problem(error: text_format.ParseError) -> str:
    """Line and reason, without what the line holds."""
    line = error.GetLine()
    reason = str(error).rpartition("': ")[2].replace("triton.", "")[:300]
    return f" {reason}" if line is None else f"{line}: {reason}"


@lru_cache(maxsize=1)
def _message_class() -> Any:
    pool = descriptor_pool.DescriptorPool()
    for file in descriptor_pb2.FileDescriptorSet.FromString(base64.b64decode(DESCRIPTOR_SET)).file:
        pool.AddSerializedFile(file.SerializeToString())
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("triton.ModelConfig"))


class _Walk:
    """Collects the fields of a text, those that its types don't have apart, and between which places these are."""

    def __init__(self, tokens: Any) -> None:
        self.fields: List[ConfigField] = []
        self.unknown: List[ConfigField] = []
        self.skipped: List[Tuple[Place, Place]] = []
        self._tokens = tokens

    def message(self, descriptor: Any, path: str, end: str) -> None:
        """All fields up to `end` ("": of the text); without a descriptor they are skipped."""
        counts: Counter[str] = Counter()
        while not (self._tokens.TryConsume(end) if end else self._tokens.AtEnd()):
            self._field(descriptor, path, counts)
            if not self._tokens.TryConsume(","):
                self._tokens.TryConsume(";")

    def _field(self, descriptor: Any, parent: str, counts: Counter[str]) -> None:
        start = self._place()
        line = start[0]
        name = self._name()
        field = descriptor.fields_by_name.get(name) if descriptor is not None else None
        path = f"{parent}.{name}" if parent else name
        self._tokens.TryConsume(":")
        self._values(field, path, line, counts)
        if field is None and descriptor is not None:
            self.unknown.append(ConfigField(path, line))
            self.skipped.append((start, self._place()))

    def _place(self) -> Place:
        """Line and column of the next token."""
        here = self._tokens.ParseError("")
        return here.GetLine(), here.GetColumn()

    def _values(self, field: Any, path: str, line: int, counts: Counter[str]) -> None:
        if not self._tokens.TryConsume("["):
            self._value(field, path, line, counts)
            return
        while not self._tokens.TryConsume("]"):
            self._value(field, path, line, counts)
            self._tokens.TryConsume(",")

    def _name(self) -> str:
        if not self._tokens.TryConsume("["):
            return str(self._tokens.ConsumeIdentifierOrNumber())
        parts = []
        while not self._tokens.TryConsume("]"):
            parts.append(self._token())
        return f"[{''.join(parts)}]"

    def _token(self) -> str:
        """The next token, which is behind then."""
        if self._tokens.AtEnd():
            raise self._tokens.ParseError("Unexpected end of the file.")
        token = str(self._tokens.token)
        self._tokens.NextToken()
        return token

    def _value(self, field: Any, path: str, line: int, counts: Counter[str]) -> None:
        closing = next((end for begin, end in _BRACKETS if self._tokens.TryConsume(begin)), "")
        if not closing:
            self._scalar(field, path, line)
        elif field is None:
            self.message(None, path, closing)
        else:
            self._nested(field, path, line, counts, closing)

    def _nested(self, field: Any, path: str, line: int, counts: Counter[str], closing: str) -> None:
        kind = field.message_type
        at = f"{path}[{counts[path]}]" if _is_repeated(field) else path
        counts[path] += 1
        first = len(self.fields)
        self.fields.append(ConfigField(at, line, is_message=True))
        self.message(kind, at, closing)
        if not kind.GetOptions().map_entry:
            return
        inside = {one.path: one for one in self.fields[first:]}
        key = inside.pop(f"{at}.key", None)
        named = f"{path}[{json.dumps('' if key is None else _unquoted(key.text), ensure_ascii=False)}]"
        self.fields[first:] = [
            replace(one, path=named + one.path[len(at) :].replace(".value", "", 1), is_message=False)
            for one in inside.values()
            if not (one.is_message and any(other.startswith(f"{one.path}.") for other in inside))
        ]

    def _scalar(self, field: Any, path: str, line: int) -> None:
        text = self._token()
        if text == "-":
            text += self._token()
        while text[0] in "\"'" and self._tokens.token[:1] in ('"', "'"):  # such strings are one
            text += self._token()
        if field is None:
            return
        if self.fields and self.fields[-1].path == path:
            self.fields[-1] = replace(self.fields[-1], text=f"{self.fields[-1].text}, {text}", is_default=False)
        else:
            self.fields.append(ConfigField(path, line, text, _is_default(field, text)))


def _is_repeated(field: Any) -> bool:
    known = getattr(field, "is_repeated", None)  # protobuf before 6 has `label`, which later ones warn of
    return bool(field.label == field.LABEL_REPEATED if known is None else known)


def _is_default(field: Any, text: str) -> bool:
    if _is_repeated(field):
        return False
    if field.enum_type is not None:
        return text in ("0", field.enum_type.values_by_number[0].name)
    if field.type == field.TYPE_BOOL:
        return text in _FALSE
    if field.type == field.TYPE_STRING:
        return not _unquoted(text)
    return text.strip("-0.fFuUlL") == ""


def _unquoted(text: str) -> str:
    """What a string's text stands for."""
    return str(text_format.Tokenizer([text]).ConsumeString()) if text[0] in "\"'" else text

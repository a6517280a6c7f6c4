"""Samples that a user's function yields."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Callable, Dict, Generator, Iterable, Iterator, Mapping, Sequence

import numpy as np

from edge_runtime.calibration.feeds import (
    LABEL,
    as_input,
    check_dtype,
    check_names,
    check_shape,
    make_sample,
    unknown_name,
)
from edge_runtime.calibration.sample import Array, Sample, content_sha256
from edge_runtime.errors import ConfigError, DataError
from edge_runtime.evaluation.user_function import UserFunction
from edge_runtime.tensors import Feeds, TensorSpec

_END = object()


@dataclass(frozen=True)
class FunctionSource:
    """What `module:function`, called with `arguments`, yields: `feeds`, `(feeds, label)` or `(feeds, targets)`.

    Feeds have the model's own shapes, batch axis included; `targets` maps `label` and `expected/<output name>` to
    arrays. The module is a file in `folder` if there is one, else an importable module. Arrays are copied, so the
    function may fill one buffer again and again. `data_version` stands for data that the module's file doesn't show.

    With `answer` (the float model) the function drives a stateful model: it is a generator that gets the model's
    outputs for its feeds, `outputs = yield feeds`, and can feed states on. Its samples are marked as a sequence.

    Raises:
        ConfigError: `spec` isn't module:function.
    """

    spec: str
    arguments: Mapping[str, Any]
    data_version: str | None
    folder: Path
    inputs: Sequence[TensorSpec]
    answer: Callable[[Feeds], Mapping[str, Array]] | None = None

    def __post_init__(self) -> None:
        UserFunction(self.spec, self.folder)

    def key(self) -> Dict[str, Any]:
        """Module, function, arguments, `data_version` and the digest of the module's file; the module isn't run.

        Raises:
            ConfigError: there is no such module, or JSON can't carry the arguments.
        """
        function = UserFunction(self.spec, self.folder)
        try:
            arguments = json.loads(json.dumps(dict(self.arguments)))
        except (TypeError, ValueError) as error:
            raise ConfigError(f"function {self.spec!r}: its arguments must be JSON values: {error}") from error
        return {
            "kind": "function",
            "module": function.module,
            "function": function.name,
            "module_sha256": function.module_sha256(),
            "arguments": arguments,
            "data_version": self.data_version,
        }

    def verified_key(self, content: str | None = None) -> Dict[str, Any]:
        """The key and the digest of everything that the function yields, which runs it unless `content` is given."""
        return {**self.key(), "content_sha256": content or content_sha256(self)}

    def count(self) -> None:
        """Unknown before the function has run."""

    def __iter__(self) -> Iterator[Sample]:
        """The samples, from a new call of the function.

        Raises:
            ConfigError: no such module or function.
            DataError: the function fails, yields nothing, yields what doesn't fit the model, or can't take answers.
        """
        user = UserFunction(self.spec, self.folder)
        function = user.load()
        with user.guarded():
            returned = function(**self.arguments)
        if not isinstance(returned, Iterable):
            raise DataError(f"function {self.spec!r} returned {_kind(returned)}, expected samples (yield them)")
        if self.answer is not None and not isinstance(returned, Generator):
            raise DataError(
                f"function {self.spec!r} returned {_kind(returned)}, expected a generator to send the stateful model's "
                "outputs to; write: outputs = yield feeds"
            )
        with user.guarded():
            iterator = iter(returned)
            item = next(iterator, _END)
        index = 0
        while item is not _END:
            sample = self._sample(item, f"function {self.spec!r}, sample {index}")
            yield sample
            outputs = None if self.answer is None else self.answer(sample.feeds)
            with user.guarded():
                item = next(iterator, _END) if outputs is None else _sent(iterator, outputs)
            index += 1
        if not index:
            raise DataError(f"function {self.spec!r} yielded no sample; expected at least one")

    def _sample(self, item: Any, where: str) -> Sample:
        feeds, targets = item if isinstance(item, tuple) and len(item) == 2 else (item, {})
        if not isinstance(feeds, Mapping):
            raise DataError(f"{where} is {_kind(item)}, expected a mapping of feeds, or (feeds, label or targets)")
        check_names(feeds, self.inputs, where)
        specs = {spec.name: spec for spec in self.inputs}
        for name in feeds:
            if name not in specs:
                raise unknown_name(name, self.inputs, where)
        checked = {name: _feed(feeds[name], spec, f"{where}: array {name!r}") for name, spec in specs.items()}
        named = targets if isinstance(targets, Mapping) else {LABEL: targets}
        arrays = {name: _array(value, f"{where}: array {name!r}") for name, value in named.items() if value is not None}
        sample = make_sample(checked, arrays, self.inputs, where)
        return sample if self.answer is None else replace(sample, is_sequence=True)


def _feed(value: Any, spec: TensorSpec, where: str) -> Array:
    array = _array(value, where)
    check_dtype(array.dtype, spec, where)
    check_shape(array.shape, spec, where)
    return as_input(array, spec, where)


def _array(value: Any, where: str) -> Array:
    try:
        return np.array(value, order="C")
    except (ValueError, TypeError) as error:
        raise DataError(f"{where} is no array: {error}") from error


def _sent(generator: Any, outputs: Mapping[str, Array]) -> Any:
    try:
        return generator.send(outputs)
    except StopIteration:
        return _END


def _kind(value: Any) -> str:
    return "None" if value is None else f"of type {type(value).__name__}"

"""A recipe in the making: what a configuration and its ONNX have said so far."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Dict, List, Tuple

from edge_runtime.provisioning.triton.fates import Fate
from edge_runtime.tensors import DType, TensorSpec
from edge_runtime.wire.model_config import ModelConfig

Range = Tuple[List[int], List[int], List[int]]  # min, opt and max of an input
CPU_TYPES = (DType.BYTES, DType.BF16)  # which ONNX Runtime runs, and TensorRT isn't built with
SLOTS, QUEUE_SIZE = "slots", "queue_size"  # settings of the server, for all models alike


@dataclass(frozen=True)
class OnnxFacts:
    """What a model's file says: inputs, outputs, and whether it is quantised by nodes of its own."""

    inputs: Tuple[TensorSpec, ...]
    outputs: Tuple[TensorSpec, ...]
    is_quantised: bool = False

    @property
    def can_batch(self) -> bool:
        """Whether axis 0 is dynamic on every input and output."""
        return all(spec.shape and spec.shape[0] == -1 for spec in (*self.inputs, *self.outputs))

    @property
    def cpu_only(self) -> Tuple[TensorSpec, ...]:
        """Inputs and outputs of text or BF16, for which the whole model runs on ONNX Runtime's CPU."""
        return tuple(spec for spec in (*self.inputs, *self.outputs) if spec.dtype in CPU_TYPES)


@dataclass
class Draft:
    """Tables of a recipe, fates of fields by path, and what else is to be said.

    `problems` are reasons for which there can be no recipe, `missing` what a person has to add to it, with the comment
    that says how; `wishes` are values of server settings.
    """

    config: ModelConfig
    facts: OnnxFacts
    tables: Dict[str, Dict[str, Any]] = field(default_factory=dict)
    fates: Dict[str, Fate] = field(default_factory=dict)
    problems: List[str] = field(default_factory=list)
    missing: List[str] = field(default_factory=list)
    wishes: Dict[str, Tuple[str, int]] = field(default_factory=dict)

    def set(self, table: str, key: str, value: Any) -> None:
        """Puts a value into a table."""
        self.tables.setdefault(table, {})[key] = value

    def wish(self, setting: str, path: str, value: int) -> None:
        """Asks for a value of a setting of the server, because of the field at `path`."""
        self.wishes[setting] = (path, value)

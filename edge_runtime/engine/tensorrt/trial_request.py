"""What a trial run is asked for, and how both of its processes write it: a line of JSON."""

from __future__ import annotations

import json
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Dict

from edge_runtime.engine.tensorrt.options import TensorRTOptions
from edge_runtime.plan.contents import StoredFile
from edge_runtime.plan.manifest import FileRecord, RangeRecord, TensorRecord, range_record, tensor_record
from edge_runtime.plan.plan_key import PlanKey
from edge_runtime.plan.sealed import SealedFile
from edge_runtime.tensors import ShapeRange, Signature, TensorSpec

_OPTIONS = ("device", "memory", "plugins", "dla_core", "allows_host_code", "library")


@dataclass(frozen=True)
class TrialRequest:
    """A plan file, what must be in it, the signature that it must have, and how it is loaded.

    `key` is that of an encrypted file. It goes to the child by its standard input alone, as all of this.
    """

    path: Path
    record: FileRecord
    signature: Signature
    options: TensorRTOptions
    what: str
    key: PlanKey | None = None

    @property
    def file(self) -> StoredFile:
        """The plan's file, plain or encrypted."""
        key = self.key
        return StoredFile(self.path, self.record) if key is None else SealedFile(self.path, self.record, lambda: key)

    def line(self) -> str:
        """As the child reads it."""
        signature = self.signature
        content = {
            "path": str(self.path.absolute()),
            "record": {"file": self.record.file, "sha256": self.record.sha256, "nbytes": self.record.nbytes},
            "inputs": [tensor_record(spec).model_dump(mode="json") for spec in signature.inputs],
            "outputs": [tensor_record(spec).model_dump(mode="json") for spec in signature.outputs],
            "profile": {
                name: range_record(limits).model_dump(mode="json", by_alias=True)
                for name, limits in signature.profile.items()
            },
            "options": {name: getattr(self.options, name) for name in _OPTIONS},
            "what": self.what,
            "key": None if self.key is None else self.key.raw.hex(),
        }
        return json.dumps(content) + "\n"


def request_from_line(line: str) -> TrialRequest:
    """The request that `line` wrote."""
    content = json.loads(line)
    profile = {name: RangeRecord.model_validate(row) for name, row in content["profile"].items()}
    return TrialRequest(
        Path(content["path"]),
        FileRecord.model_validate(content["record"]),
        Signature(
            tuple(_spec(entry) for entry in content["inputs"]),
            tuple(_spec(entry) for entry in content["outputs"]),
            {name: ShapeRange(row.minimum, row.optimum, row.maximum) for name, row in profile.items()},
        ),
        _options(content["options"]),
        content["what"],
        None if content["key"] is None else PlanKey(bytes.fromhex(content["key"])),
    )


def _spec(entry: Dict[str, Any]) -> TensorSpec:
    record = TensorRecord.model_validate(entry)
    return TensorSpec(record.name, record.dtype, record.shape, record.axes)


def _options(content: Dict[str, Any]) -> TensorRTOptions:
    known = {field.name for field in fields(TensorRTOptions)}
    given = {name: value for name, value in content.items() if name in known}
    return TensorRTOptions(**{**given, "plugins": tuple(given["plugins"]), "graphs": "off"})

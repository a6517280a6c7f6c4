"""`manifest.json`: what a plan was built from and for, and what the gate said."""

from __future__ import annotations

import json
from typing import Any, Dict, List, Optional, Sequence, Tuple

from pydantic import BaseModel, ConfigDict, Field, StrictInt, ValidationError

from edge_runtime.errors import ConfigError, PlanCorruptError, PlanTargetError
from edge_runtime.tensors import DType, ShapeRange, Signature, TensorSpec

SCHEMA = 1
CHAIN_SCHEMA = 2  # of plans in parts, of which a program that knows only the first schema would run but the first


class Record(BaseModel):
    """Base of a manifest's parts: unknown keys are kept, for a manifest may be newer than we are."""

    model_config = ConfigDict(extra="allow", frozen=True, populate_by_name=True)


class TensorRecord(Record):
    """One input or output."""

    name: str
    dtype: DType
    shape: Tuple[int, ...]
    axes: Tuple[str, ...] = ()


class RangeRecord(Record):
    """One input's row of the optimization profile."""

    minimum: Tuple[int, ...] = Field(alias="min")
    optimum: Tuple[int, ...] = Field(alias="opt")
    maximum: Tuple[int, ...] = Field(alias="max")


class FileRecord(Record):
    """A file beside the manifest."""

    file: str = Field(pattern=r"^[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}$")
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    nbytes: int = Field(ge=0)


class PlanRecord(FileRecord):
    """The plan file, and the file of its weights if they lie apart."""

    weights: Optional[FileRecord] = None

    @property
    def total_nbytes(self) -> int:
        """The size of the plan in all its files."""
        return self.nbytes + (self.weights.nbytes if self.weights else 0)


class GoldenRecord(Record):
    """The file of the plan's golden run, where its inputs come from, and the SHA-256 of each output (`plan.golden`)."""

    file: FileRecord
    origin: str
    outputs: Dict[str, str]


class BackendRecord(Record):
    """The engine library that the plan was built with, and the device it was built for."""

    name: str
    version: str
    platform: str
    device: str


class PluginRecord(Record):
    """A library of operators that a plan needs: where it was when the plan was built, and what it held."""

    path: str
    sha256: str


class TargetRecord(Record):
    """The board that a TensorRT plan was built on, and what ties the plan to it; None is not known.

    `form` is how its precision was asked for: `strong` (types of the ONNX), `weak` (flags), `qdq` (flags and Q/DQ) or
    `implicit` (flags and a calibration cache). `shares_profile`: several contexts can use its profile at once.
    `is_reduced`: memory was short, so it was built with less than was wanted, and may be slower than need be.
    `nodes` are the names of the ONNX nodes that were built, in their order: the plan's layers are traced back to them.
    """

    form: str
    compute_capability: Optional[Tuple[int, int]] = None
    gpu: str = ""
    dla_core: Optional[int] = None
    l4t: str = ""
    power_mode: Optional[str] = None
    version_compatible: bool = False
    hardware_compatibility: str = "none"
    plugins: List[PluginRecord] = []
    shares_profile: bool = True
    is_reduced: bool = False
    nodes: List[str] = []


class SourceRecord(Record):
    """The ONNX model that the plan was made from: its files (relative names) and their digests.

    `pack` is the SHA-256 of the pack that brought it, None if none did.
    """

    source: str
    digest: str
    files: Dict[str, str]
    pack: Optional[str] = Field(None, pattern=r"^[0-9a-f]{64}$")


class DataRecord(Record):
    """Identity of the calibration and held-out data, and digest of the calibration table used."""

    calibration: Optional[Dict[str, Any]] = None
    held_out: Optional[Dict[str, Any]] = None
    table_sha256: Optional[str] = None


class MetricRecord(Record):
    """A score over `n` rows and its 95 % interval; None where it isn't a finite number, or not known.

    `better` is `higher` or `lower`, "" in manifests that don't say. `magnitude` is that of the target, of which a
    difference is a share, where it isn't a share of the score itself.
    """

    name: str
    value: Optional[float]
    low: Optional[float]
    high: Optional[float]
    n: int
    better: str = ""
    magnitude: Optional[float] = None


class LossRecord(Record):
    """What a candidate loses of float's score, as the gate counts it, and the 95 % interval of that."""

    value: Optional[float]
    low: Optional[float]
    high: Optional[float]


class AgreementRecord(Record):
    """How near a candidate's answers are to float's; None where that isn't a finite number."""

    cosine: Optional[float]
    sqnr_db: Optional[float]


class LatencyRecord(Record):
    """Latency over that of the candidate `against`, with its 95 % interval."""

    against: str
    ratio: float
    low: float
    high: float


class CandidateRecord(Record):
    """One candidate and its verdict: `chosen`, `passed`, `refused`, `forced` or `unavailable`.

    `int8_macs` is the share of the multiply-accumulates of Conv, ConvTranspose, Gemm and MatMul that are in INT8;
    `kept_float` are the nodes that could be and aren't.
    """

    name: str = ""
    precision: str
    calibrator: Optional[str] = None
    verdict: str
    reason: str
    nbytes: Optional[int] = None
    int8_macs: Optional[float] = None
    kept_float: List[str] = []
    metric: Optional[MetricRecord] = None
    loss: Optional[LossRecord] = None
    agreement: Optional[AgreementRecord] = None
    latency: Optional[LatencyRecord] = None


class SensitivityRecord(Record):
    """What quantising one group of nodes alone does to the outputs: the error's energy over float's, of the worst one.

    `macs` is the group's share of the model's multiply-accumulates.
    """

    group: str
    kind: str
    nodes: List[str]
    error: Optional[float]
    macs: float


class PartRecord(Record):
    """One plan of a chain: its files, what it takes and gives, and the names of the ONNX nodes that it was built of.

    The nodes are those of TensorRT's plans, in their order.
    """

    plan: PlanRecord
    inputs: List[TensorRecord]
    outputs: List[TensorRecord]
    profile: Dict[str, RangeRecord]
    nodes: List[str] = []

    @property
    def signature(self) -> Signature:
        """Inputs, outputs and profile as the rest of the program uses them."""
        return _signature(self.inputs, self.outputs, self.profile)


class ChainRecord(Record):
    """The plans that run one after the other in place of one, and the tensors at which the model was cut.

    `latency` is the chain's over that of the plan uncut; None: not measured.
    """

    split: List[str]
    parts: List[PartRecord] = Field(min_length=2)
    latency: Optional[LatencyRecord] = None


class Manifest(Record):
    """All of `manifest.json`. `plan` is the first one of a `chain`, where there is one."""

    schema_version: StrictInt = Field(SCHEMA, alias="schema")
    name: str
    version: int = Field(ge=1)
    created: str
    edge_runtime: str
    build_key: str
    precision: str
    forced: bool = False
    plan: PlanRecord
    source: SourceRecord
    data: DataRecord
    backend: BackendRecord
    device: Dict[str, Any]
    inputs: List[TensorRecord]
    outputs: List[TensorRecord]
    profile: Dict[str, RangeRecord]
    max_batch_size: int
    candidates: List[CandidateRecord]
    target: Optional[TargetRecord] = None
    reason: str = ""
    notes: List[str] = []
    sensitivity: List[SensitivityRecord] = []
    chain: Optional[ChainRecord] = None
    golden: Optional[GoldenRecord] = None

    @property
    def signature(self) -> Signature:
        """Inputs, outputs and profile as the rest of the program uses them."""
        return _signature(self.inputs, self.outputs, self.profile)

    @property
    def plans(self) -> Tuple[PlanRecord, ...]:
        """The plan, or those of the chain in their order."""
        return (self.plan,) if self.chain is None else tuple(part.plan for part in self.chain.parts)

    @property
    def files(self) -> Tuple[FileRecord, ...]:
        """Every file beside the manifest: plans, weights that lie apart, the golden run."""
        files = [file for plan in self.plans for file in (plan, plan.weights) if file is not None]
        return tuple(files if self.golden is None else [*files, self.golden.file])

    @property
    def total_nbytes(self) -> int:
        """The size of all plans in all their files."""
        return sum(plan.total_nbytes for plan in self.plans)


def _signature(
    inputs: Sequence[TensorRecord], outputs: Sequence[TensorRecord], profile: Dict[str, RangeRecord]
) -> Signature:
    return Signature(
        tuple(_spec(record) for record in inputs),
        tuple(_spec(record) for record in outputs),
        {name: ShapeRange(row.minimum, row.optimum, row.maximum) for name, row in profile.items()},
    )


def _spec(record: TensorRecord) -> TensorSpec:
    return TensorSpec(record.name, record.dtype, record.shape, record.axes)


def tensor_record(spec: TensorSpec) -> TensorRecord:
    """A spec as the manifest writes it."""
    return TensorRecord(name=spec.name, dtype=spec.dtype, shape=spec.shape, axes=spec.axes)


def range_record(limits: ShapeRange) -> RangeRecord:
    """A shape range as the manifest writes it."""
    return RangeRecord(minimum=limits.minimum, optimum=limits.optimum, maximum=limits.maximum)


def manifest_text(manifest: Manifest) -> str:
    """The JSON text of a manifest, keys of unknown origin included."""
    return json.dumps(manifest.model_dump(mode="json", by_alias=True), indent=2) + "\n"


def manifest_from_text(text: str, source: str) -> Manifest:
    """The manifest in `text`; `source` names it in messages.

    Raises:
        PlanTargetError: its schema is newer than ours.
        PlanCorruptError: it isn't JSON, or lacks something.
    """
    try:
        content = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise PlanCorruptError(f"{source}: not valid JSON ({error}); build the plan again") from None
    if not isinstance(content, dict):
        raise PlanCorruptError(f"{source}: expected a JSON object; build the plan again")
    schema = content.get("schema")
    if isinstance(schema, (int, float)) and schema > CHAIN_SCHEMA:
        raise PlanTargetError(
            f"{source}: expected schema {CHAIN_SCHEMA} or older, got {schema}; "
            "upgrade edge_runtime or build the plan again"
        )
    try:
        manifest = Manifest.model_validate(content)
        _check_signature(manifest.signature)
        if manifest.chain is not None:
            _check_chain(manifest, manifest.chain)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(map(str, first["loc"]))
        raise PlanCorruptError(f"{source}: {where}: {first['msg']}; build the plan again") from None
    except ConfigError as error:
        raise PlanCorruptError(f"{source}: {error}; build the plan again") from None
    return manifest


def _check_signature(signature: Signature) -> None:
    names = {spec.name for spec in signature.inputs}
    if not names or not signature.outputs or names != set(signature.profile):
        raise ConfigError(
            f"inputs {sorted(names)}, profile {sorted(signature.profile)}: expected the same, and outputs"
        )
    for spec in signature.inputs:
        if signature.profile[spec.name].spec_shape != spec.shape:
            raise ConfigError(f"input {spec.name!r} of shape {list(spec.shape)} has {signature.profile[spec.name]}")


def _check_chain(manifest: Manifest, chain: ChainRecord) -> None:
    """Raises ConfigError unless each part takes what the model takes or an earlier part gives."""
    files = [file.file for plan in manifest.plans for file in (plan, plan.weights) if file is not None]
    if chain.parts[0].plan != manifest.plan or len(files) != len(set(files)):
        raise ConfigError(f"chain of {files}: expected a file of its own for each part, the plan's first")
    known = {spec.name: spec for spec in manifest.signature.inputs}
    made: Dict[str, TensorSpec] = {}
    for number, part in enumerate(chain.parts, 1):
        signature = part.signature
        _check_signature(signature)
        for spec in signature.inputs:
            _check_same(spec, known.get(spec.name), f"chain: input {spec.name!r} of part {number}")
        made.update((spec.name, spec) for spec in signature.outputs)
        known = {**made, **known}
    for spec in manifest.signature.outputs:
        _check_same(spec, made.get(spec.name), f"chain: output {spec.name!r}")


def _check_same(spec: TensorSpec, source: TensorSpec | None, what: str) -> None:
    if source is None:
        raise ConfigError(f"{what}: is made by no part before")
    if (spec.dtype, len(spec.shape)) != (source.dtype, len(source.shape)):
        expected, got = (f"{one.dtype.value} {list(one.shape)}" for one in (source, spec))
        raise ConfigError(f"{what}: expected {expected}, got {got}")

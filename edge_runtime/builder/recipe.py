"""A recipe: all that decides what a build makes, validated and with nothing unknown in it."""

from __future__ import annotations

import contextlib
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Collection, Dict, List, Literal, Mapping, Optional, Sequence, Tuple

from pydantic import Field, field_validator, model_validator

from edge_runtime.builder.layers import overridden, table_of
from edge_runtime.config import RECIPE_SECTIONS, Layer, Settings, environment_layer, read_toml, validated
from edge_runtime.errors import ConfigError, nearest
from edge_runtime.plan.names import check_model_name
from edge_runtime.plan.serving import ServingTable

PRECISIONS = ("auto", "fp32", "fp16", "int8")
METRICS = ("accuracy", "cosine", "mse", "max-abs")
CALIBRATIONS = ("auto", "entropy", "percentile", "mse", "max", "tensorrt")
IMPORTED = "imported"
BACKENDS = ("auto", "onnxruntime", "tensorrt", "tensorrt_rtx")
FUNCTION = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*")
_OPERATOR = re.compile(r"[A-Za-z_][\w.:-]*")
_MOST_MIB = 1 << 20  # 1 TiB

Dims = Tuple[int, ...]


def _one_of(value: str, choices: Sequence[str]) -> str:
    if value not in choices:
        raise ValueError(f"expected one of {', '.join(choices)}")
    return value


class ModelTable(Settings):
    """`[model]`: where the ONNX file is."""

    name: Optional[str] = Field(None, description="Name of the model in the engine store (default: the recipe's name).")
    path: Optional[str] = Field(None, description="The ONNX file; relative to the recipe.")
    package: Optional[str] = Field(
        None, min_length=1, description="An installed distribution that carries the ONNX file."
    )
    file: Optional[str] = Field(None, description="The ONNX file inside that distribution.")
    max_batch: int = Field(
        8, ge=1, description="Largest batch of inputs without shapes of their own whose only dynamic axis is axis 0."
    )

    split: List[str] = Field(
        [], description="Tensor to cut the model at: each part is a plan, and other requests can run in between."
    )

    @field_validator("split")
    @classmethod
    def _tensors(cls, values: List[str]) -> List[str]:
        if not all(values) or len(set(values)) < len(values):
            raise ValueError("expected names of tensors, each once")
        return values

    @model_validator(mode="after")
    def _one_source(self) -> ModelTable:
        if (self.path is None) == (self.package is None) or (self.package is None) != (self.file is None):
            raise ValueError("give either `path`, or `package` with `file`")
        return self


class InputTable(Settings):
    """`[input.NAME]`: the shapes that the plan is built for."""

    axes: Optional[List[str]] = Field(None, description="Names of the axes; equal names mean equal sizes.")
    shape: Optional[Dims] = Field(None, description="The one shape of a fixed input.")
    minimum: Optional[Dims] = Field(None, alias="min", description="Smallest shape.")
    optimum: Optional[Dims] = Field(None, alias="opt", description="Most usual shape, the one that is timed.")
    maximum: Optional[Dims] = Field(None, alias="max", description="Largest shape.")
    value: Any = Field(None, description="A number, or nested lists of them: the input becomes this constant.")

    @model_validator(mode="after")
    def _shapes(self) -> InputTable:
        if self.value is not None:
            if any(other is not None for other in (self.axes, self.shape, self.minimum, self.optimum, self.maximum)):
                raise ValueError("an input with a `value` has no axes and no shapes")
            return self
        given = [value is not None for value in (self.minimum, self.optimum, self.maximum)]
        if any(given) == (self.shape is not None) or (any(given) and not all(given)):
            raise ValueError("give either `shape`, or all of `min`, `opt` and `max`")
        ranks = {len(dims) for dims in (self.shape, self.minimum, self.optimum, self.maximum) if dims is not None}
        if len(ranks) != 1 or (self.axes is not None and ranks != {len(self.axes)}):
            raise ValueError("`axes` and the shapes need one entry for each dimension, the same number in all")
        if not all(self.axes or ["any"]):
            raise ValueError("every axis in `axes` needs a name")
        return self


class DataTable(Settings):
    """`[held_out]`, and the common part of `[calibration]`: where samples come from."""

    data: Optional[str] = Field(None, description="Samples: an .npz file, or module:function that yields them.")
    arguments: Dict[str, Any] = Field({}, description="Keyword arguments of the function.")
    data_version: Optional[str] = Field(None, description="Change it when the function reads other data than before.")
    stateful: bool = Field(False, description="Whether the function gets the model's answers: outputs = yield feeds.")

    @field_validator("data_version", mode="before")
    @classmethod
    def _text(cls, value: Any) -> Any:
        return str(value) if isinstance(value, (int, float)) else value

    @model_validator(mode="after")
    def _kind(self) -> DataTable:
        if self.data is not None and not self.is_function:
            if not self.data.endswith(".npz"):
                raise ValueError("`data` is neither an .npz file nor module:function")
            if self.arguments or self.data_version is not None or self.stateful:
                raise ValueError("`arguments`, `data_version` and `stateful` belong to module:function, not to .npz")
        return self

    @property
    def is_function(self) -> bool:
        """Whether `data` names a function."""
        return self.data is not None and FUNCTION.fullmatch(self.data) is not None


class CalibrationTable(DataTable):
    """`[calibration]`."""

    algorithm: str = Field(
        "auto",
        description="How thresholds are chosen: entropy, percentile, mse or max; auto compares all by the metric. "
        "tensorrt is TensorRT's own calibrator, on the GPU (8.x to 10.x).",
    )
    max_clipped: float = Field(
        1e-3, ge=0, lt=1, description="Largest share of an activation's values other than zero to clip."
    )
    percentile: float = Field(
        99.99, gt=0, le=100, description="Percent of an activation's values that the percentile algorithm keeps."
    )
    table: Optional[str] = Field(None, description="A TensorRT calibration cache to use instead of calibrating.")
    tables: Dict[str, str] = Field(
        {}, description="Calibration caches made before, by algorithm, to use instead; several compete by the metric."
    )

    @model_validator(mode="after")
    def _one_way(self) -> CalibrationTable:
        if self.table is not None and self.tables:
            raise ValueError("give either `table` or `tables`")
        if (self.table is not None or self.tables) and self.algorithm != "auto":
            raise ValueError("a `table` is used as it is: leave `algorithm` out")
        return self

    @field_validator("tables")
    @classmethod
    def _made_by(cls, values: Dict[str, str]) -> Dict[str, str]:
        for algorithm in values:
            _one_of(algorithm, CALIBRATIONS[1:])
        return values

    @property
    def imported(self) -> Dict[str, str]:
        """The paths of the tables that were made before, by what made them; empty if the data is calibrated on."""
        return self.tables if self.table is None else {IMPORTED: self.table}

    batch_size: int = Field(1, ge=1, description="Rows a run while calibrating: more is faster and takes more memory.")

    @field_validator("algorithm")
    @classmethod
    def _known(cls, value: str) -> str:
        return _one_of(value, CALIBRATIONS)


class MetricTable(Settings):
    """`[metric]`: how answers are scored."""

    name: Optional[str] = Field(
        None, description="accuracy, cosine, mse, max-abs or module:function (with labels accuracy, else cosine)."
    )
    output: Optional[str] = Field(None, description="The output that accuracy looks at (default: the first float one).")
    better: Literal["higher", "lower"] = Field("higher", description="Which score of module:function is better.")

    @model_validator(mode="after")
    def _own(self) -> MetricTable:
        if self.better == "lower" and not FUNCTION.fullmatch(self.name or ""):
            raise ValueError("`better` is for module:function; the other metrics know")
        return self

    @field_validator("name")
    @classmethod
    def _known(cls, value: Optional[str]) -> Optional[str]:
        if value is not None and value not in METRICS and not FUNCTION.fullmatch(value):
            raise ValueError(f"expected {', '.join(METRICS)} or module:function")
        return value


class PrecisionTable(Settings):
    """`[precision]`."""

    policy: str = Field("auto", description="auto, fp32, fp16 or int8; an explicit one is that or nothing.")
    keep_float: List[str] = Field([], description="Nodes that are not quantised, by name.")
    io: Literal["fp32", "fp16"] = Field("fp32", description="Type of float inputs and outputs of an fp16 plan.")
    rest: Literal["fp32", "fp16"] = Field("fp32", description="What an int8 plan computes in where it isn't INT8.")
    fallback: Optional[Literal["fp16"]] = Field(
        None, description="Precision instead of int8 on a board without INT8 hardware (Nano, TX1, TX2)."
    )
    min_int8: float = Field(
        0.5, ge=0, le=1, description="Mixed: least share of the quantisable multiply-accumulates to keep in INT8."
    )

    @model_validator(mode="after")
    def _edges(self) -> PrecisionTable:
        if self.policy == "int8" and self.io == "fp16" and self.rest != "fp16":
            raise ValueError('`io = "fp16"` of an int8 plan needs `rest = "fp16"`')
        return self

    @field_validator("policy")
    @classmethod
    def _known(cls, value: str) -> str:
        return _one_of(value, PRECISIONS)


class GateTable(Settings):
    """`[gate]`: what a narrower precision must keep."""

    max_drop: Optional[float] = Field(
        None,
        ge=0,
        allow_inf_nan=False,
        description="Largest loss, as a share of float's score; for mse and max-abs of the target's magnitude.",
    )
    min_gain: float = Field(
        0.05, ge=0, lt=1, description="Under auto: least gain of latency over the best wider precision, as a share."
    )
    latency_budget_s: float = Field(5.0, gt=0, le=600, description="Time for one latency comparison, seconds.")
    publish_failed: bool = Field(False, description="Publish an explicit precision that failed, marked `forced`.")


class BackendTable(Settings):
    """`[backend]`: what the plan is built with and for."""

    name: str = Field("auto", description="auto, onnxruntime, tensorrt or tensorrt_rtx.")
    device: Optional[str] = Field(None, description="cpu, gpu:N or dla:N (default: the backend's).")
    fallback: Optional[Literal["onnxruntime"]] = Field(
        None, description="Backend to use where `auto` finds a GPU that can't be used."
    )
    int8: Literal["auto", "qdq", "implicit"] = Field(
        "auto", description="How TensorRT gets INT8: Q/DQ nodes, or implicit by a calibration cache (8.x to 10.x)."
    )
    workspace_mib: Optional[int] = Field(
        None, ge=1, le=_MOST_MIB, strict=True, description="Workspace of a TensorRT build (default: by memory)."
    )
    memory_limit_mib: Optional[int] = Field(
        None,
        ge=1,
        le=_MOST_MIB,
        strict=True,
        description="What the process of a TensorRT build may hold (default: what is available).",
    )
    optimization_level: Optional[int] = Field(
        None, ge=0, le=5, strict=True, description="How long TensorRT searches, 0 to 5 (default: TensorRT's)."
    )
    version_compatible: bool = Field(False, description="Whether later versions of TensorRT may load the plan.")
    hardware_compatibility: Literal["none", "ampere_plus", "same_compute_capability"] = Field(
        "none", description="Which other GPUs may load the plan; not on a Jetson."
    )
    compute_capabilities: List[str] = Field([], description="GPUs of a TensorRT-RTX plan, such as 8.9 (default: all).")
    plugins: List[str] = Field([], description="Libraries of TensorRT plugins to load; relative to the recipe.")
    plugin_ops: List[str] = Field([], description="Operators that plugins implement, such as EfficientNMS_TRT.")

    @field_validator("name")
    @classmethod
    def _known(cls, value: str) -> str:
        return _one_of(value, BACKENDS)

    @field_validator("device")
    @classmethod
    def _device(cls, value: Optional[str]) -> Optional[str]:
        if value is not None and not re.fullmatch(r"cpu|(gpu|dla):[0-9]{1,2}", value):
            raise ValueError("expected cpu, gpu:N or dla:N")
        return value

    @field_validator("compute_capabilities")
    @classmethod
    def _capabilities(cls, values: List[str]) -> List[str]:
        if not all(re.fullmatch(r"[0-9]{1,2}\.[0-9]", value) for value in values):
            raise ValueError("expected capabilities such as 8.9")
        return values

    @field_validator("version_compatible", mode="before")
    @classmethod
    def _truth(cls, value: Any) -> Any:
        if isinstance(value, str) and value.lower() not in ("true", "false"):  # a variable may say True
            raise ValueError("expected true or false")
        return value

    @field_validator("plugin_ops")
    @classmethod
    def _operators(cls, values: List[str]) -> List[str]:
        if not all(_OPERATOR.fullmatch(value) for value in values):
            raise ValueError("expected names of operators, such as EfficientNMS_TRT")
        return values

    @property
    def dla_core(self) -> Optional[int]:
        """The core of the deep learning accelerator that is wanted, None for the GPU or CPU."""
        return int(self.device[4:]) if self.device is not None and self.device.startswith("dla:") else None

    @property
    def gpu(self) -> int:
        """The ordinal of the GPU that is wanted."""
        return int(self.device[4:]) if self.device is not None and self.device.startswith("gpu:") else 0


class RecipeTables(Settings):
    """All tables of a recipe file."""

    model: ModelTable
    input: Dict[str, InputTable] = Field({})
    calibration: CalibrationTable = CalibrationTable()
    held_out: DataTable = DataTable()
    metric: MetricTable = MetricTable()
    precision: PrecisionTable = PrecisionTable()
    gate: GateTable = GateTable()
    backend: BackendTable = BackendTable()
    serving: ServingTable = ServingTable()


@dataclass(frozen=True)
class Recipe:
    """Validated tables, and the folder that their relative paths and modules start from."""

    name: str
    tables: RecipeTables
    folder: Path

    def path(self, relative: str) -> Path:
        """A path of the recipe as the file system knows it.

        Raises:
            ConfigError: it can't be a path.
        """
        try:
            path = self.folder / Path(relative).expanduser()
            with contextlib.suppress(FileNotFoundError, NotADirectoryError):
                os.stat(path)  # noqa: PTH116  (Path.exists() is silent about names that no file can have)
        except (OSError, RuntimeError, ValueError) as error:
            raise ConfigError(f"recipe {self.name!r}: path {relative[:128]!r} can't be used: {error}") from None
        return path


def load_recipe(path: Path, flags: Layer | None = None, environ: Mapping[str, str] = os.environ) -> Recipe:
    """The recipe in a TOML file, with environment variables and then `flags` on top.

    Raises:
        ConfigError: the file, a variable or a flag is wrong.
    """
    return make_recipe(read_toml(path), path.stem, Path(os.path.abspath(path)).parent, flags, environ)  # noqa: PTH100


def make_recipe(
    tables: Layer, name: str, folder: Path, flags: Layer | None = None, environ: Mapping[str, str] = os.environ
) -> Recipe:
    """A recipe from tables; `name` is the model's unless they name it, `folder` is where relative paths start.

    Raises:
        ConfigError: a table, a variable or a flag is wrong.
    """
    layers = overridden(overridden(tables, environment_layer(environ, RECIPE_SECTIONS), ignores_case=True), flags or {})
    parsed = validated(RecipeTables, layers, f"recipe {name!r}")
    model_name = name if parsed.model.name is None else parsed.model.name
    try:
        return Recipe(check_model_name(model_name), parsed, folder)
    except ConfigError as error:
        raise ConfigError(f"{error}; set [model] name") from None


def name_of(tables: Layer) -> str:
    """What a model is called whose tables don't say: as its file is."""
    model = table_of(tables, "model")
    return str(model.get("name") or Path(str(model.get("path") or model.get("file") or "model")).stem)


def check_names(names: Sequence[Optional[str]], valid: Collection[str], problem: str) -> None:
    """Raises ConfigError, beginning with `problem`, if one of `names` isn't valid; None is."""
    for name in names:
        if name is not None and name not in valid:
            raise ConfigError(f"{problem} {name!r}: {nearest(name, valid)}")

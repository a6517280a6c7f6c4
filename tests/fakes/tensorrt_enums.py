"""The enumerations of each TensorRT, with the integers that NVIDIA's bindings have: they move between versions."""

from __future__ import annotations

from typing import Dict

_BUILDER_FLAGS_8 = (
    "FP16 INT8 DEBUG GPU_FALLBACK STRICT_TYPES REFIT DISABLE_TIMING_CACHE TF32 SPARSE_WEIGHTS SAFETY_SCOPE "
    "OBEY_PRECISION_CONSTRAINTS PREFER_PRECISION_CONSTRAINTS DIRECT_IO REJECT_EMPTY_ALGORITHMS"
)
_BUILDER_FLAGS_10 = (
    "FP16 INT8 DEBUG GPU_FALLBACK REFIT DISABLE_TIMING_CACHE TF32 SPARSE_WEIGHTS SAFETY_SCOPE "
    "OBEY_PRECISION_CONSTRAINTS PREFER_PRECISION_CONSTRAINTS DIRECT_IO REJECT_EMPTY_ALGORITHMS VERSION_COMPATIBLE "
    "EXCLUDE_LEAN_RUNTIME FP8 ERROR_ON_TIMING_CACHE_MISS BF16 DISABLE_COMPILATION_CACHE STRIP_PLAN REFIT_IDENTICAL "
    "WEIGHT_STREAMING INT4 REFIT_INDIVIDUAL"
)
_LAYERS_8 = (
    "CONVOLUTION FULLY_CONNECTED ACTIVATION POOLING LRN SCALE SOFTMAX DECONVOLUTION CONCATENATION ELEMENTWISE PLUGIN "
    "UNARY PADDING SHUFFLE REDUCE TOPK GATHER MATRIX_MULTIPLY RAGGED_SOFTMAX CONSTANT RNN_V2 IDENTITY PLUGIN_V2 SLICE "
    "SHAPE PARAMETRIC_RELU RESIZE TRIP_LIMIT RECURRENCE ITERATOR LOOP_OUTPUT SELECT FILL QUANTIZE DEQUANTIZE CONDITION "
    "CONDITIONAL_INPUT CONDITIONAL_OUTPUT SCATTER EINSUM ASSERTION"
)
_LAYERS_10 = (
    "CONVOLUTION CAST ACTIVATION POOLING LRN SCALE SOFTMAX DECONVOLUTION CONCATENATION ELEMENTWISE PLUGIN UNARY "
    "PADDING SHUFFLE REDUCE TOPK GATHER MATRIX_MULTIPLY RAGGED_SOFTMAX CONSTANT IDENTITY PLUGIN_V2 SLICE SHAPE "
    "PARAMETRIC_RELU RESIZE TRIP_LIMIT RECURRENCE ITERATOR LOOP_OUTPUT SELECT FILL QUANTIZE DEQUANTIZE CONDITION "
    "CONDITIONAL_INPUT CONDITIONAL_OUTPUT SCATTER EINSUM ASSERTION ONE_HOT NON_ZERO GRID_SAMPLE NMS REVERSE_SEQUENCE "
    "NORMALIZATION PLUGIN_V3"
)
_PARSER_ERRORS_8 = (
    "SUCCESS INTERNAL_ERROR MEM_ALLOC_FAILED MODEL_DESERIALIZE_FAILED INVALID_VALUE INVALID_GRAPH INVALID_NODE "
    "UNSUPPORTED_GRAPH UNSUPPORTED_NODE"
)
_PARSER_ERRORS_10 = (
    f"{_PARSER_ERRORS_8} UNSUPPORTED_NODE_ATTR UNSUPPORTED_NODE_INPUT UNSUPPORTED_NODE_DATATYPE "
    "UNSUPPORTED_NODE_DYNAMIC UNSUPPORTED_NODE_SHAPE REFIT_FAILED"
)


def _numbered(names: str, **moved: int) -> Dict[str, int]:
    """Names counted from 0, then those with a number of their own."""
    return {**{name: number for number, name in enumerate(names.split())}, **moved}


# Each from the surface named on, until the next; None: the enumeration is gone.
_ENUMS: Dict[str, Dict[str, Dict[str, int] | None]] = {
    "Severity": {"8.2": _numbered("INTERNAL_ERROR ERROR WARNING INFO VERBOSE")},
    "BuilderFlag": {
        "8.2": _numbered(_BUILDER_FLAGS_8),
        "8.6": _numbered(f"{_BUILDER_FLAGS_8} ENABLE_TACTIC_HEURISTIC VERSION_COMPATIBLE EXCLUDE_LEAN_RUNTIME FP8"),
        "10.3": _numbered(_BUILDER_FLAGS_10, WEIGHTLESS=19),
        "10.13": _numbered(
            f"{_BUILDER_FLAGS_10} STRICT_NANS MONITOR_MEMORY FP4 EDITABLE_TIMING_CACHE DISTRIBUTIVE_INDEPENDENCE",
            WEIGHTLESS=19,
        ),
        "11.4": {
            "DEBUG": 2,
            "GPU_FALLBACK": 3,
            "REFIT": 4,
            "DISABLE_TIMING_CACHE": 5,
            "TF32": 6,
            "SPARSE_WEIGHTS": 7,
            "SAFETY_SCOPE": 8,
            "DIRECT_IO": 11,
            "VERSION_COMPATIBLE": 12,
            "EXCLUDE_LEAN_RUNTIME": 13,
            "ERROR_ON_TIMING_CACHE_MISS": 15,
            "DISABLE_COMPILATION_CACHE": 17,
            "STRIP_PLAN": 18,
            "REFIT_IDENTICAL": 19,
            "WEIGHT_STREAMING": 20,
            "REFIT_INDIVIDUAL": 22,
            "STRICT_NANS": 23,
            "MONITOR_MEMORY": 24,
            "EDITABLE_TIMING_CACHE": 26,
            "DISTRIBUTIVE_INDEPENDENCE": 27,
        },
    },
    "NetworkDefinitionCreationFlag": {
        "8.2": _numbered("EXPLICIT_BATCH EXPLICIT_PRECISION"),
        "10.3": _numbered("EXPLICIT_BATCH STRONGLY_TYPED"),
        "10.13": _numbered("EXPLICIT_BATCH STRONGLY_TYPED PREFER_JIT_PYTHON_PLUGINS PREFER_AOT_PYTHON_PLUGINS"),
        "11.4": _numbered("STRONGLY_TYPED PREFER_JIT_PYTHON_PLUGINS PREFER_AOT_PYTHON_PLUGINS"),
    },
    "DataType": {
        "8.2": _numbered("FLOAT HALF INT8 INT32 BOOL"),
        "8.5": _numbered("FLOAT HALF INT8 INT32 BOOL UINT8"),
        "8.6": _numbered("FLOAT HALF INT8 INT32 BOOL UINT8 FP8"),
        "10.3": _numbered("FLOAT HALF INT8 INT32 BOOL UINT8 FP8 BF16 INT64 INT4"),
        "10.13": _numbered("FLOAT HALF INT8 INT32 BOOL UINT8 FP8 BF16 INT64 INT4 FP4 E8M0"),
    },
    "MemoryPoolType": {
        "8.4": _numbered("WORKSPACE DLA_MANAGED_SRAM DLA_LOCAL_DRAM DLA_GLOBAL_DRAM"),
        "8.5": _numbered("WORKSPACE DLA_MANAGED_SRAM DLA_LOCAL_DRAM DLA_GLOBAL_DRAM TACTIC_DRAM"),
        "10.3": _numbered("WORKSPACE DLA_MANAGED_SRAM DLA_LOCAL_DRAM DLA_GLOBAL_DRAM TACTIC_DRAM TACTIC_SHARED_MEMORY"),
    },
    "ErrorCode": {"8.2": _numbered(_PARSER_ERRORS_8), "10.3": _numbered(_PARSER_ERRORS_10)},
    "LayerType": {
        "8.2": _numbered(_LAYERS_8),
        "8.5": _numbered(f"{_LAYERS_8} ONE_HOT NON_ZERO GRID_SAMPLE NMS"),
        "8.6": _numbered(f"{_LAYERS_8} ONE_HOT NON_ZERO GRID_SAMPLE NMS REVERSE_SEQUENCE NORMALIZATION CAST"),
        "10.3": _numbered(_LAYERS_10),
        "10.13": _numbered(f"{_LAYERS_10} SQUEEZE UNSQUEEZE CUMULATIVE DYNAMIC_QUANTIZE"),
    },
    "ProfilingVerbosity": {
        "8.2": {"LAYER_NAMES_ONLY": 0, "NONE": 1, "DETAILED": 2, "DEFAULT": 0, "VERBOSE": 2},
        "10.3": {"LAYER_NAMES_ONLY": 0, "NONE": 1, "DETAILED": 2},
    },
    "EngineCapability": {
        "8.2": {"DEFAULT": 0, "SAFE_GPU": 1, "SAFE_DLA": 2, "STANDARD": 0, "SAFETY": 1, "DLA_STANDALONE": 2},
        "10.3": _numbered("STANDARD SAFETY DLA_STANDALONE"),
    },
    "HardwareCompatibilityLevel": {
        "8.6": _numbered("NONE AMPERE_PLUS"),
        "10.13": _numbered("NONE AMPERE_PLUS SAME_COMPUTE_CAPABILITY"),
    },
    "PreviewFeature": {
        "8.5": _numbered("FASTER_DYNAMIC_SHAPES_0805 DISABLE_EXTERNAL_TACTIC_SOURCES_FOR_CORE_0805"),
        "8.6": _numbered(
            "FASTER_DYNAMIC_SHAPES_0805 DISABLE_EXTERNAL_TACTIC_SOURCES_FOR_CORE_0805 PROFILE_SHARING_0806"
        ),
        "10.3": _numbered("PROFILE_SHARING_0806 ALIASED_PLUGIN_IO_10_03"),
        "10.13": _numbered("PROFILE_SHARING_0806 ALIASED_PLUGIN_IO_10_03 RUNTIME_ACTIVATION_RESIZE_10_10"),
        "11.4": _numbered("ALIASED_PLUGIN_IO_10_03 RUNTIME_ACTIVATION_RESIZE_10_10"),
    },
    "OnnxParserFlag": {
        "8.6": _numbered("NATIVE_INSTANCENORM"),
        "10.13": _numbered("NATIVE_INSTANCENORM ENABLE_UINT8_AND_ASYMMETRIC_QUANTIZATION_DLA"),
        "11.4": _numbered(
            "NATIVE_INSTANCENORM ENABLE_UINT8_AND_ASYMMETRIC_QUANTIZATION_DLA REPORT_CAPABILITY_DLA "
            "ENABLE_PLUGIN_OVERRIDE ADJUST_FOR_DLA"
        ),
    },
    "ExecutionContextAllocationStrategy": {"10.3": _numbered("STATIC ON_PROFILE_CHANGE USER_MANAGED")},
    "TensorIOMode": {"8.5": _numbered("NONE INPUT OUTPUT")},
    "TensorFormat": {"8.2": _numbered("LINEAR CHW2 HWC8 CHW4 CHW16 CHW32")},
    "TensorLocation": {"8.2": _numbered("DEVICE HOST")},
    "DeviceType": {"8.2": _numbered("GPU DLA")},
    "LayerInformationFormat": {"8.2": _numbered("ONELINE JSON")},
    "QuantizationFlag": {"8.2": _numbered("CALIBRATE_BEFORE_FUSION"), "11.4": None},
    "CalibrationAlgoType": {
        "8.2": _numbered("LEGACY_CALIBRATION ENTROPY_CALIBRATION ENTROPY_CALIBRATION_2 MINMAX_CALIBRATION"),
        "11.4": None,
    },
}


def enums_of(surface: str, surfaces: tuple) -> Dict[str, Dict[str, int]]:
    """The members of each enumeration of a surface; `surfaces` are all of them, oldest first."""
    found: Dict[str, Dict[str, int] | None] = {}
    for version in surfaces[: surfaces.index(surface) + 1]:
        found.update({name: steps[version] for name, steps in _ENUMS.items() if version in steps})
    return {name: members for name, members in found.items() if members is not None}

"""Devices and precision: instance groups and execution accelerators."""

from __future__ import annotations

import json
import re
from pathlib import PurePosixPath
from typing import Any, Dict, List, Mapping

from edge_runtime.provisioning.triton.data_types import CPU_KIND, cpu_reason, is_for_cpu, sample_problem
from edge_runtime.provisioning.triton.draft import SLOTS, Draft, Range
from edge_runtime.provisioning.triton.fates import Fate, honoured, lost, not_needed

_MIB = 1 << 20
_ACCELERATORS = "optimization.execution_accelerators"
_GPU = f"{_ACCELERATORS}.gpu_execution_accelerator"
_CACHES = not_needed("a plan is built once; it, timings and calibration tables are kept")
_WHOLE = not_needed("TensorRT runs the whole model, not parts of it")
_LOG = not_needed("a build says what it does")
_NO_SETTING = lost("there is no such setting of a build")
_PROFILE = "trt_profile_{}_shapes"
_TRUE = ("1", "true", "True")

_PARAMETERS: Mapping[str, Fate] = {
    "trt_engine_cache_enable": _CACHES,
    "trt_engine_cache_path": _CACHES,
    "trt_engine_cache_prefix": _CACHES,
    "trt_timing_cache_enable": _CACHES,
    "trt_timing_cache_path": _CACHES,
    "trt_force_timing_cache": _CACHES,
    "trt_dump_ep_context_model": _CACHES,
    "trt_ep_context_file_path": _CACHES,
    "trt_ep_context_embed_mode": _CACHES,
    "trt_max_partition_iterations": _WHOLE,
    "trt_min_subgraph_size": _WHOLE,
    "trt_dump_subgraphs": _WHOLE,
    "trt_force_sequential_engine_build": not_needed("one plan is built at a time"),
    "trt_detailed_build_log": _LOG,
    "trt_layer_norm_fp32_fallback": not_needed("FP16 leaves in float32 what sums, squares or takes exponentials"),
    "trt_cuda_graph_enable": not_needed("TensorRT's runs become CUDA graphs, unless EDGE_RUNTIME_SERVER__GRAPHS=off"),
    "trt_extra_plugin_lib_paths": lost("name the libraries of this machine in [backend] plugins"),
    "trt_context_memory_sharing_enable": _NO_SETTING,
    "trt_build_heuristics_enable": _NO_SETTING,
    "trt_sparsity_enable": _NO_SETTING,
    "trt_auxiliary_streams": _NO_SETTING,
    "trt_tactic_sources": _NO_SETTING,
}


def draft_devices(draft: Draft) -> bool:
    """Sets `[backend]` by the instance groups, and wishes for slots; whether the model runs on the CPU."""
    groups = draft.config.message.instance_group
    reason = cpu_reason(draft)
    is_cpu = bool(reason) or is_for_cpu(draft)
    if is_cpu:
        draft.set("backend", "name", "onnxruntime")
    if reason and not groups:
        draft.fates["instance_group"] = lost(f'{reason}: [backend] name = "onnxruntime"')
    for index, group in enumerate(groups):
        path = f"instance_group[{index}].kind"
        if is_cpu and (not reason or group.kind == CPU_KIND):
            draft.fates[path] = honoured('[backend] name = "onnxruntime", the CPU')
        elif reason:
            draft.fates[path] = lost(f'{reason}: [backend] name = "onnxruntime"')
        elif group.kind == CPU_KIND:
            draft.fates[path] = lost("a model runs on one device: the GPU of its other instances")
        else:
            draft.fates[path] = not_needed("a machine's GPU is used where it has one")
    _draft_gpu(draft, is_cpu)
    _draft_dla(draft, is_cpu)
    count = sum(group.count for group in groups)
    if count:
        draft.wish(SLOTS, "instance_group.count", count)
    return is_cpu


def _draft_gpu(draft: Draft, is_cpu: bool) -> None:
    gpus = sorted({gpu for group in draft.config.message.instance_group for gpu in group.gpus})
    if not gpus:
        return
    first = gpus[0]
    if is_cpu:
        fate = not_needed("the model runs on the CPU")
    elif not 0 <= first < 100:
        fate = lost(f"there is no GPU {first}; set [backend] device")
    else:
        if first:
            draft.set("backend", "device", f"gpu:{first}")
        text = f'[backend] device = "gpu:{first}"' if first else "GPU 0, the default"
        fate = honoured(text) if len(gpus) == 1 else lost(f"a model runs on one GPU: {first}, the first of them")
    draft.fates["instance_group.gpus"] = fate


def _draft_dla(draft: Draft, is_cpu: bool) -> None:
    cores = [one.device_id for group in draft.config.message.instance_group for one in group.secondary_devices]
    if not cores:
        return
    if is_cpu or not 0 <= cores[0] < 100:
        text = "the model runs on the CPU" if is_cpu else "no such accelerator; set [backend] device"
        draft.fates["instance_group.secondary_devices"] = lost(text)
        return
    draft.set("backend", "device", f"dla:{cores[0]}")
    draft.fates["instance_group.secondary_devices"] = honoured(f'[backend] device = "dla:{cores[0]}"')


def draft_accelerators(draft: Draft, is_cpu: bool, is_plan: bool, table: str | None) -> Dict[str, Range]:
    """Sets `[precision]`, `[backend]` and `[calibration]` by the accelerators; shape ranges that they give, by input.

    `table` is the path of the calibration table that they name, as the recipe reads it, None if it isn't there.
    """
    accelerators = draft.config.message.optimization.execution_accelerators
    for index, accelerator in enumerate(accelerators.cpu_execution_accelerator):
        text = f"there is no {accelerator.name!r}; the CPU runs ONNX Runtime's own kernels"
        draft.fates[f"{_ACCELERATORS}.cpu_execution_accelerator[{index}]"] = lost(text)
    found: Mapping[str, str] | None = None
    at, reason = "", cpu_reason(draft)
    for index, accelerator in enumerate(accelerators.gpu_execution_accelerator):
        path = f"{_GPU}[{index}]"
        if is_cpu and not reason:
            draft.fates[path] = not_needed("it is for instances on a GPU")
            continue
        is_taken = accelerator.name == "tensorrt" and found is None
        if is_taken:
            at, found = path, dict(accelerator.parameters)
        if reason:
            draft.fates[path] = lost(reason)
        elif is_taken:
            draft.fates[f"{path}.name"] = honoured("[backend] auto is TensorRT where there is a GPU")
        else:
            draft.fates[path] = lost(f"there is no {accelerator.name!r}; TensorRT runs models on a GPU")
    if found is None:
        draft.set("precision", "policy", "auto" if is_plan else "fp32")
    else:
        _draft_precision(draft, at, found, table)
        if not reason:
            _draft_build(draft, at, found)
    _suit_dla(draft, at, found or {})
    return {} if found is None else _ranges(draft, at, found)


def calibration_file(message: Any) -> str | None:
    """The file name of the TensorRT calibration table that the accelerators name, if they do."""
    for accelerator in message.optimization.execution_accelerators.gpu_execution_accelerator:
        parameters = accelerator.parameters
        if accelerator.name == "tensorrt" and parameters.get("int8_use_native_calibration_table") in _TRUE:
            return PurePosixPath(parameters.get("int8_calibration_table_name", "")).name or None
    return None


def _draft_precision(draft: Draft, at: str, parameters: Mapping[str, str], table: str | None) -> None:
    mode = parameters.get("precision_mode", "FP32")
    policy = mode.lower() if mode in ("FP32", "FP16", "INT8") else "fp32"
    fate = (
        honoured(f'[precision] policy = "{policy}"') if mode.lower() == policy else lost(f"{mode!r} isn't known: fp32")
    )
    named = "int8_calibration_table_name" in parameters
    if policy == "fp16" and cpu_reason(draft):
        policy, fate = "fp32", lost(f"{cpu_reason(draft)}, and the CPU computes FP16 in float32: fp32")
    if policy == "int8" and draft.facts.is_quantised:
        policy, fate = "fp32", honoured("the ONNX has Q/DQ nodes: they are kept, and what is INT8 by them stays so")
    elif policy == "int8" and table is not None:
        draft.set("calibration", "table", table)
    elif policy == "int8" and sample_problem(draft):
        draft.problems.append(
            f"INT8 has no scales, and {sample_problem(draft)}: put a TensorRT calibration table in the repository and "
            "name it, or set precision_mode to FP32"
        )
    elif policy == "int8":
        draft.missing.append(
            "[calibration] needs data (samples), or table (a TensorRT calibration cache): INT8 has no scales"
        )
    draft.set("precision", "policy", policy)
    draft.fates[_parameter(at, "precision_mode")] = fate
    if table is not None and policy == "int8":
        text = honoured("[calibration] table")
    elif policy == "int8" and named:
        text = lost(
            "no table of TensorRT's own format of that name is in the repository; set [calibration] table or data"
        )
    else:
        text = not_needed("nothing is calibrated")
    for name in ("int8_calibration_table_name", "int8_use_native_calibration_table"):
        if name in parameters:
            draft.fates[_parameter(at, name)] = text


def _suit_dla(draft: Draft, at: str, parameters: Mapping[str, str]) -> None:
    """Makes FP32 on a deep learning accelerator FP16, for it has no wider type."""
    device = str(draft.tables.get("backend", {}).get("device", ""))
    if device.startswith("dla:") and draft.tables["precision"]["policy"] == "fp32":
        draft.set("precision", "policy", "fp16")
        written = _parameter(at, "precision_mode")
        path = written if "precision_mode" in parameters else "precision (of the DLA)"
        draft.fates[path] = lost('a DLA computes FP16 and INT8 only: [precision] policy = "fp16"')


def _draft_build(draft: Draft, at: str, parameters: Mapping[str, str]) -> None:
    for name in parameters:
        path = _parameter(at, name)
        if path not in draft.fates:
            known = _PARAMETERS.get(name, lost("not known to this import; nothing is done about it"))
            draft.fates[path] = known
    workspace = _number(parameters.get("max_workspace_size_bytes", ""))
    if workspace is not None:
        mib = min(max(1, -(-workspace // _MIB)), 1 << 20)
        draft.set("backend", "workspace_mib", mib)
        draft.fates[_parameter(at, "max_workspace_size_bytes")] = honoured(f"[backend] workspace_mib = {mib}")
    level = _number(parameters.get("trt_builder_optimization_level", ""))
    if level is not None and level <= 5:
        draft.set("backend", "optimization_level", level)
        draft.fates[_parameter(at, "trt_builder_optimization_level")] = honoured(
            f"[backend] optimization_level = {level}"
        )
    core = _number(parameters.get("trt_dla_core", "0"))
    dla = [name for name in ("trt_dla_enable", "trt_dla_core") if name in parameters]
    is_dla = parameters.get("trt_dla_enable") in _TRUE and core is not None and core < 100
    if is_dla:
        draft.set("backend", "device", f"dla:{core}")
    for name in dla:
        text = honoured(f'[backend] device = "dla:{core}"') if is_dla else not_needed("no DLA is switched on")
        draft.fates[_parameter(at, name)] = text


def _ranges(draft: Draft, at: str, parameters: Mapping[str, str]) -> Dict[str, Range]:
    """Shapes by input from the three parameters of a profile, where an input is in all of them."""
    names = [_PROFILE.format(edge) for edge in ("min", "opt", "max")]
    parsed = [_shapes(parameters.get(name, "")) for name in names]
    found = {
        name: (smallest, parsed[1][name], parsed[2][name])
        for name, smallest in parsed[0].items()
        if name in parsed[1]
        and name in parsed[2]
        and all(a <= b <= c for a, b, c in zip(smallest, parsed[1][name], parsed[2][name]))
    }
    for name in names:
        if name in parameters:
            fate = (
                honoured("[input.NAME] min, opt and max")
                if found
                else lost("not three shapes for an input; set [input.NAME]")
            )
            draft.fates[_parameter(at, name)] = fate
    return found


def _shapes(text: str) -> Dict[str, List[int]]:
    """Shapes by input from `NAME:1x3x224x224,NAME:…`; what isn't of that form is left out."""
    found = {}
    for name, sizes in re.findall(r"([^,]+):(\d{1,9}(?:x\d{1,9})*)(?:,|$)", text):
        shape = [int(size) for size in sizes.split("x")]
        if min(shape) > 0:
            found[name] = shape
    return found


def _number(text: str) -> int | None:
    return int(text) if text.isascii() and text.isdigit() and len(text) < 19 else None


def _parameter(at: str, name: str) -> str:
    return f"{at}.parameters[{json.dumps(name, ensure_ascii=False)}]"

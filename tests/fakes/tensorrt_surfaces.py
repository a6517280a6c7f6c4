"""Which names each TensorRT has, of those that the fakes know.

8.6, 10.3, 10.13 and 11.4 are checked against NVIDIA's bindings of those versions. There are no wheels of 8.2, 8.4 and
8.5: they are what 8.6 has, less what came later, and that can only be checked against 8.6. What 8.6 itself dropped of
8.2 (`INetworkDefinition.serialize`) is left out.
"""

from __future__ import annotations

from typing import Dict, Tuple

VERSIONS = {
    "8.2": "8.2.1.8",
    "8.4": "8.4.1.5",
    "8.5": "8.5.2.2",
    "8.6": "8.6.1",
    "10.3": "10.3.0",
    "10.13": "10.13.3.9",
    "11.4": "11.4.0.106",
}
SURFACES = tuple(VERSIONS)

_SEVERITIES = "INTERNAL_ERROR ERROR WARNING INFO VERBOSE Severity"
_CALIBRATOR = "get_batch_size get_algorithm get_batch read_calibration_cache write_calibration_cache"
# What a surface adds to the one before it: names by class, "" for the module's functions.
_ADDED: Dict[str, Dict[str, str]] = {
    "8.2": {
        "": "init_libnvinfer_plugins get_plugin_registry volume",
        "ILogger": f"log {_SEVERITIES}",
        "Logger": f"log min_severity {_SEVERITIES}",
        "IProfiler": "report_layer_time",
        "Dims": "MAX_DIMS",
        "IHostMemory": "nbytes dtype",
        "Builder": "create_network create_builder_config create_optimization_profile build_serialized_network logger "
        "is_network_supported platform_has_fast_fp16 platform_has_fast_int8 platform_has_tf32 num_DLA_cores "
        "max_DLA_batch_size max_batch_size reset",
        "INetworkDefinition": "num_inputs num_outputs num_layers get_input get_output get_layer mark_output "
        "unmark_output name has_implicit_batch_dimension __len__ __getitem__",
        "ITensor": "name dtype shape location is_shape_tensor is_execution_tensor is_network_input is_network_output "
        "dynamic_range set_dynamic_range reset_dynamic_range",
        "ILayer": "name type num_inputs num_outputs get_input get_output precision precision_is_set reset_precision "
        "set_output_type get_output_type output_type_is_set reset_output_type",
        "IBuilderConfig": "flags set_flag get_flag clear_flag max_workspace_size int8_calibrator default_device_type "
        "DLA_core set_device_type get_device_type is_device_type_set reset_device_type can_run_on_DLA "
        "add_optimization_profile num_optimization_profiles set_calibration_profile get_calibration_profile "
        "profiling_verbosity create_timing_cache set_timing_cache get_timing_cache engine_capability "
        "avg_timing_iterations min_timing_iterations profile_stream quantization_flags set_quantization_flag "
        "get_quantization_flag clear_quantization_flag",
        "ITimingCache": "serialize combine reset",
        "IOptimizationProfile": "set_shape get_shape set_shape_input get_shape_input extra_memory_target",
        "OnnxParser": "parse parse_from_file num_errors get_error clear_errors supports_model supports_operator",
        "ParserError": "code desc file func line node",
        "IInt8EntropyCalibrator2": _CALIBRATOR,
        "IInt8MinMaxCalibrator": _CALIBRATOR,
        "IPluginRegistry": "plugin_creator_list get_plugin_creator",
        "Runtime": "deserialize_cuda_engine DLA_core num_DLA_cores logger",
        "ICudaEngine": "num_bindings get_binding_name get_binding_index binding_is_input get_binding_shape "
        "get_binding_dtype get_location get_profile_shape get_profile_shape_input is_shape_binding "
        "is_execution_binding num_layers num_optimization_profiles device_memory_size name refittable serialize "
        "create_execution_context create_execution_context_without_device_memory create_engine_inspector "
        "profiling_verbosity has_implicit_batch_dimension max_batch_size __len__ __getitem__",
        "IExecutionContext": "execute_v2 execute_async_v2 set_binding_shape get_binding_shape set_shape_input "
        "get_shape get_strides all_binding_shapes_specified all_shape_inputs_specified profiler enqueue_emits_profile "
        "report_to_profiler engine name device_memory active_optimization_profile set_optimization_profile_async",
        "EngineInspector": "execution_context get_layer_information get_engine_information",
    },
    "8.4": {
        "Builder": "max_threads",
        "Runtime": "max_threads",
        "IBuilderConfig": "set_memory_pool_limit get_memory_pool_limit",
    },
    "8.5": {
        "IOutputAllocator": "notify_shape reallocate_output",
        "IBuilderConfig": "set_preview_feature get_preview_feature",
        "ICudaEngine": "num_io_tensors get_tensor_name get_tensor_mode get_tensor_dtype get_tensor_shape "
        "get_tensor_location get_tensor_profile_shape is_shape_inference_io get_tensor_bytes_per_component "
        "get_tensor_format get_tensor_format_desc",
        "IExecutionContext": "set_input_shape get_tensor_shape set_tensor_address get_tensor_address infer_shapes "
        "execute_async_v3 set_output_allocator get_output_allocator get_max_output_size get_tensor_strides "
        "set_input_consumed_event get_input_consumed_event persistent_cache_limit nvtx_verbosity",
    },
    "8.6": {
        "Builder": "get_plugin_registry",
        "ILayer": "metadata",
        "ITensor": "get_dimension_name set_dimension_name",
        "IBuilderConfig": "builder_optimization_level hardware_compatibility_level max_aux_streams",
        "OnnxParser": "flags set_flag get_flag clear_flag get_used_vc_plugin_libraries",
        "IPluginRegistry": "load_library deregister_library",
        "Runtime": "engine_host_code_allowed get_plugin_registry temporary_directory",
        "ICudaEngine": "hardware_compatibility_level num_aux_streams",
    },
    "10.3": {
        "INetworkDefinition": "flags get_flag",
        "IBuilderConfig": "progress_monitor",
        "IProgressMonitor": "phase_start step_complete phase_finish",
        "OnnxParser": "supports_model_v2 num_subgraphs is_subgraph_supported get_subgraph_nodes",
        "ParserError": "node_name node_operator local_function_stack local_function_stack_size",
        "IPluginRegistry": "all_creators get_creator",
        "ICudaEngine": "device_memory_size_v2 get_device_memory_size_for_profile_v2 get_tensor_profile_values",
        "IExecutionContext": "set_device_memory update_device_memory_size_for_shapes",
    },
    "10.13": {},
    "11.4": {},
}
# What a surface no longer has; a class whose names are all gone is gone.
_DROPPED: Dict[str, Dict[str, str]] = {
    "10.3": {
        "Builder": "max_batch_size",
        "IBuilderConfig": "max_workspace_size min_timing_iterations",
        "IOutputAllocator": "notify_shape reallocate_output",
        "ICudaEngine": "num_bindings get_binding_name get_binding_index binding_is_input get_binding_shape "
        "get_binding_dtype get_location get_profile_shape get_profile_shape_input is_shape_binding "
        "is_execution_binding max_batch_size __len__",
        "IExecutionContext": "execute_async_v2 set_binding_shape get_binding_shape set_shape_input get_shape "
        "get_strides",
    },
    "11.4": {
        "Builder": "platform_has_fast_fp16 platform_has_fast_int8 platform_has_tf32",
        "ITensor": "dynamic_range set_dynamic_range reset_dynamic_range",
        "ILayer": "precision precision_is_set reset_precision set_output_type output_type_is_set reset_output_type",
        "IBuilderConfig": "int8_calibrator set_calibration_profile get_calibration_profile quantization_flags "
        "set_quantization_flag get_quantization_flag clear_quantization_flag",
        "OnnxParser": "supports_model",
        "IInt8EntropyCalibrator2": _CALIBRATOR,
        "IInt8MinMaxCalibrator": _CALIBRATOR,
        "IPluginRegistry": "plugin_creator_list get_plugin_creator",
        "ICudaEngine": "device_memory_size has_implicit_batch_dimension create_execution_context_without_device_memory",
        "IExecutionContext": "all_shape_inputs_specified",
    },
}
# Classes that stay though they have no names left to override.
_BARE = ("IOutputAllocator",)


def names_of(surface: str) -> Dict[str, Tuple[str, ...]]:
    """The names of each class of a surface; "" has the module's functions."""
    found: Dict[str, Dict[str, None]] = {}
    for version in SURFACES[: SURFACES.index(surface) + 1]:
        for owner, names in _ADDED[version].items():
            found.setdefault(owner, {}).update(dict.fromkeys(names.split()))
        for owner, names in _DROPPED.get(version, {}).items():
            for name in names.split():
                del found[owner][name]
    return {owner: tuple(names) for owner, names in found.items() if names or owner in _BARE}

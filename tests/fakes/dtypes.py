"""The data types by what NumPy has, and as ONNX has them."""

from __future__ import annotations

import onnxruntime
from onnx import TensorProto, helper

from edge_runtime.tensors import DType

PLAIN = tuple(dtype for dtype in DType if dtype not in (DType.BYTES, DType.BF16))  # NumPy's own
HAS_BFLOAT16 = hasattr(onnxruntime.OrtValue, "ortvalue_from_numpy_with_onnx_type")  # whether this version takes BF16
_OTHERS = {DType.BYTES: TensorProto.STRING, DType.BF16: TensorProto.BFLOAT16}


def onnx_type(dtype: DType) -> int:
    """ONNX's number for a data type."""
    return _OTHERS[dtype] if dtype in _OTHERS else helper.np_dtype_to_tensor_dtype(dtype.numpy)

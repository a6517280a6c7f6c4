"""The least that grpc.aio can do: ONNX Runtime with one thread, run on the loop.

python grpc_inline.py PORT NAME=MODEL.onnx ...
"""

from __future__ import annotations

import asyncio
import signal
import sys
from typing import Any, Dict

import grpc
import numpy as np
import onnxruntime

from edge_runtime.wire.messages import message

_Request, _Response = message("inference.ModelInferRequest"), message("inference.ModelInferResponse")


def session_of(path: str) -> Any:
    """A session with one thread."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])


async def serve(port: str, sessions: Dict[str, Any]) -> None:
    """Answers until SIGTERM."""

    async def infer(request: Any, _: Any) -> Any:
        source = request.inputs[0]
        tensor = np.frombuffer(request.raw_input_contents[0], np.float32).reshape(source.shape)
        session = sessions[request.model_name]
        name = session.get_outputs()[0].name
        result = session.run([name], {source.name: tensor})[0]
        answer = _Response(model_name=request.model_name, raw_output_contents=[result.tobytes()])
        answer.outputs.add(name=name, datatype="FP32", shape=result.shape)
        return answer

    method = grpc.unary_unary_rpc_method_handler(infer, _Request.FromString, _Response.SerializeToString)
    server = grpc.aio.server()
    service = grpc.method_handlers_generic_handler("inference.GRPCInferenceService", {"ModelInfer": method})
    server.add_generic_rpc_handlers((service,))
    server.add_insecure_port(f"127.0.0.1:{port}")
    await server.start()
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    await stop.wait()
    await server.stop(1)


if __name__ == "__main__":
    named = dict(word.split("=", 1) for word in sys.argv[2:])
    asyncio.run(serve(sys.argv[1], {name: session_of(path) for name, path in named.items()}))

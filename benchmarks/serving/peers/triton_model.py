"""A model of Triton's python backend: ONNX Runtime with one thread."""

import json

import numpy as np
import onnxruntime
import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    """One instance, in a process of its own."""

    def initialize(self, args):
        """Loads the ONNX file that the configuration names."""
        config = json.loads(args["model_config"])
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        path = config["parameters"]["onnx"]["string_value"]
        self.session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        self.input, self.output = config["input"][0]["name"], config["output"][0]["name"]

    def execute(self, requests):
        """Answers each request alone."""
        return [self.answer(request) for request in requests]

    def answer(self, request):
        """The answer to one request."""
        tensor = pb_utils.get_input_tensor_by_name(request, self.input).as_numpy()
        (result,) = self.session.run([self.output], {self.input: np.ascontiguousarray(tensor)})
        return pb_utils.InferenceResponse(output_tensors=[pb_utils.Tensor(self.output, result)])

"""The nets that are served: tiny, small and medium from fixed seeds, and the text detector of RapidOCR.

`python -m serving.nets tiny small` writes each into its folder below `.bench/nets`: model, request bodies, the expected
answer. That is a child process, so the benchmark itself never loads the libraries whose memory it measures in servers.
"""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, List, Sequence, Tuple

from serving.places import NETS, PARTS, own_environment, own_module

if TYPE_CHECKING:
    import numpy as np

NAMES = ("tiny", "small", "medium", "det")
_DET_SIDE = 480


@dataclass(frozen=True)
class Net:
    """A net with one float32 input and one output; what is sent to it lies in `folder`."""

    name: str
    input_name: str
    input_shape: Tuple[int, ...]
    has_dynamic_sizes: bool  # of more axes than the batch
    output_name: str
    output_rank: int
    output_nbytes: int
    http_header_nbytes: int

    @property
    def folder(self) -> Path:
        """Where its files are."""
        return NETS / self.name

    @property
    def model(self) -> Path:
        """The ONNX file."""
        return self.folder / "model.onnx"

    @property
    def http_body(self) -> Path:
        """A request with the binary tensor extension: a JSON head, then the tensor."""
        return self.folder / "http.body"

    @property
    def grpc_body(self) -> Path:
        """A ModelInferRequest with gRPC's five bytes before it."""
        return self.folder / "grpc.body"

    @property
    def input_file(self) -> Path:
        """The input tensor's bytes."""
        return self.folder / "input.f32"

    @property
    def expected_file(self) -> Path:
        """The output that ONNX Runtime gives to it, as bytes."""
        return self.folder / "expected.f32"

    @property
    def shape_flag(self) -> str:
        """Its input as `edge-runtime build --shape` takes it: one shape only."""
        return f"{self.input_name}={'x'.join(map(str, self.input_shape))}"


def prepared(names: Sequence[str]) -> List[Net]:
    """The nets by these names, made anew.

    Raises:
        subprocess.CalledProcessError: a net can't be made; the child's message went to stderr.
    """
    subprocess.run(own_module("nets", *names), check=True, env=own_environment())
    return [net_of(name) for name in names]


def net_of(name: str) -> Net:
    """A net that was prepared."""
    fields = json.loads((NETS / name / "net.json").read_text())
    return Net(**{**fields, "input_shape": tuple(fields["input_shape"])})


def main() -> None:
    """Writes the nets that the command line names."""
    from serving.net_graphs import medium, small, tiny  # noqa: PLC0415

    made = {"tiny": tiny, "small": small, "medium": medium}
    for name in sys.argv[1:]:
        folder = NETS / name
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "model.onnx").write_bytes(made[name]() if name in made else _detector())
        _write(name, folder)


def _detector() -> bytes:
    from edge_runtime.builder.recipe import load_recipe  # noqa: PLC0415
    from edge_runtime.builder.source import model_path  # noqa: PLC0415

    return model_path(load_recipe(PARTS.parent / "precision" / "det.toml")).read_bytes()


def _write(name: str, folder: Path) -> None:
    import numpy as np  # noqa: PLC0415
    import onnxruntime  # noqa: PLC0415

    session = onnxruntime.InferenceSession(str(folder / "model.onnx"), providers=["CPUExecutionProvider"])
    source = session.get_inputs()[0]
    shape = tuple(
        size if isinstance(size, int) else (1 if axis == 0 else _DET_SIDE) for axis, size in enumerate(source.shape)
    )
    tensor = np.random.default_rng(0).standard_normal(shape, dtype=np.float32)
    output_name = session.get_outputs()[0].name
    expected = session.run([output_name], {source.name: tensor})[0]
    head = _http_head(source.name, tensor, output_name)
    is_dynamic = any(not isinstance(size, int) for size in source.shape[1:])
    net = Net(name, source.name, shape, is_dynamic, output_name, expected.ndim, expected.nbytes, len(head))
    net.http_body.write_bytes(head + tensor.tobytes())
    net.grpc_body.write_bytes(_framed(_grpc_request(net, tensor)))
    net.input_file.write_bytes(tensor.tobytes())
    net.expected_file.write_bytes(expected.tobytes())
    (folder / "net.json").write_text(json.dumps(asdict(net)))


def _http_head(input_name: str, tensor: np.ndarray[Any, Any], output_name: str) -> bytes:
    row = {
        "name": input_name,
        "shape": tensor.shape,
        "datatype": "FP32",
        "parameters": {"binary_data_size": tensor.nbytes},
    }
    output = {"name": output_name, "parameters": {"binary_data": True}}
    return json.dumps({"inputs": [row], "outputs": [output]}, separators=(",", ":")).encode()


def _grpc_request(net: Net, tensor: np.ndarray[Any, Any]) -> bytes:
    from edge_runtime.wire.messages import message  # noqa: PLC0415

    request = message("inference.ModelInferRequest")(model_name=net.name, raw_input_contents=[tensor.tobytes()])
    request.inputs.add(name=net.input_name, datatype="FP32", shape=net.input_shape)
    request.outputs.add(name=net.output_name)
    return bytes(request.SerializeToString())


def _framed(message: bytes) -> bytes:
    return b"\0" + len(message).to_bytes(4, "big") + message


if __name__ == "__main__":
    main()

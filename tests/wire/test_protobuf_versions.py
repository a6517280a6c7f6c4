"""The messages on every supported major version of protobuf, beside another package's `inference` messages."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

CODE = """
import base64, google.protobuf
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from edge_runtime.wire.descriptors import DESCRIPTOR_SET
for file in descriptor_pb2.FileDescriptorSet.FromString(base64.b64decode(DESCRIPTOR_SET)).file:
    descriptor_pool.Default().AddSerializedFile(file.SerializeToString())  # as another package would
found = descriptor_pool.Default().FindMessageTypeByName("inference.ModelInferRequest")
theirs = message_factory.GetMessageClass(found)(model_name="m", id="7", raw_input_contents=[b"1234"])
from edge_runtime.wire.messages import SERVICE, message, methods
ours = message("inference.ModelInferRequest").FromString(theirs.SerializeToString())
assert type(ours) is not type(theirs)
assert (ours.model_name, ours.id, ours.raw_input_contents[0]) == ("m", "7", b"1234")
service = descriptor_pool.Default().FindServiceByName(SERVICE)
assert [name for name, _, _ in methods(SERVICE)] == [method.name for method in service.methods] != []
from edge_runtime.wire.model_config import parse_model_config
config = parse_model_config(b'input { name: "a" zork: [ { } ] dims: [ 1, 2 ] } parameters { key: "k" }', "config.pbtxt")
assert [field.path for field in config.fields] == ["input[0]", "input[0].name", "input[0].dims", 'parameters["k"]']
assert [field.path for field in config.unknown] == ["input[0].zork"]
print(google.protobuf.__version__)
"""


@pytest.mark.slow
@pytest.mark.parametrize("version", ["4.25.9", "5.29.5", "6.33.6"])
def test_messages_work_with_protobuf(version: str, tmp_path: Path) -> None:
    pip = [sys.executable, "-m", "pip", "install", "-q", "--disable-pip-version-check", "--no-deps"]
    got = subprocess.run([*pip, "--target", str(tmp_path), f"protobuf=={version}"], check=False, capture_output=True)
    if got.returncode and sys.version_info < (3, 9):
        pytest.skip(f"protobuf {version} has no wheel for this Python")
    assert got.returncode == 0, got.stderr
    path = os.pathsep.join([str(tmp_path), str(Path(__file__).resolve().parents[2])])
    environ = {**os.environ, "PYTHONPATH": path}
    done = subprocess.run([sys.executable, "-c", CODE], env=environ, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == version

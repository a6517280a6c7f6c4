"""Writes edge_runtime/wire/descriptors.py from the .proto files beside it. Needs grpcio-tools (`make proto`)."""

from __future__ import annotations

import base64
import tempfile
import textwrap
from pathlib import Path

from grpc_tools import protoc

WIRE = Path(__file__).resolve().parents[1] / "edge_runtime" / "wire"
HEADER = '''"""The messages of inference.proto and health.proto, compiled; made by `make proto`, not by hand."""

from __future__ import annotations

'''


def main() -> None:
    """Compiles both files into one descriptor set, and that into a module."""
    with tempfile.TemporaryDirectory() as folder:
        output = Path(folder) / "set"
        arguments = ["protoc", f"-I{WIRE}", f"--descriptor_set_out={output}", "inference.proto", "health.proto"]
        if protoc.main(arguments):
            raise SystemExit("protoc failed")
        text = base64.b64encode(output.read_bytes()).decode()
    lines = "\n".join(f'    "{line}"' for line in textwrap.wrap(text, 110))
    (WIRE / "descriptors.py").write_text(f"{HEADER}DESCRIPTOR_SET = (\n{lines}\n)\n")


if __name__ == "__main__":
    main()

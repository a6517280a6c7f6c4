"""Writes the descriptor modules of edge_runtime/wire from the .proto files there. Needs grpcio-tools (`make proto`)."""

from __future__ import annotations

import base64
import tempfile
import textwrap
from pathlib import Path
from typing import Sequence

from grpc_tools import protoc

WIRE = Path(__file__).resolve().parents[1] / "edge_runtime" / "wire"
MODULES = {
    "descriptors.py": ("inference.proto", "health.proto"),
    "model_config_descriptors.py": ("model_config.proto",),  # apart: a server's start has no use for it
}
HEADER = '''"""The messages of {files}, compiled; made by `make proto`, not by hand."""

from __future__ import annotations

'''


def main() -> None:
    """Compiles the files of each module into one descriptor set, and that into the module."""
    for module, files in MODULES.items():
        text = base64.b64encode(_descriptor_set(files)).decode()
        lines = "\n".join(f'    "{line}"' for line in textwrap.wrap(text, 110))
        header = HEADER.format(files=" and ".join(files))
        (WIRE / module).write_text(f"{header}DESCRIPTOR_SET = (\n{lines}\n)\n")


def _descriptor_set(files: Sequence[str]) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        output = Path(folder) / "set"
        if protoc.main(["protoc", f"-I{WIRE}", f"--descriptor_set_out={output}", *files]):
            raise SystemExit("protoc failed")
        return output.read_bytes()


if __name__ == "__main__":
    main()

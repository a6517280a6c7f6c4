"""One process of the calibration benchmark: CONTESTANT FOLDER all|quantised.

Prints how many tensors got a scale, and the peak memory, as JSON.

Each contestant imports only what it needs, for that is part of what it takes.
"""

from __future__ import annotations

import json
import logging
import sys
import tempfile
from pathlib import Path
from typing import Any, Dict, Iterator

OPERATORS = ["Conv", "ConvTranspose", "MatMul", "Gemm"]


def main() -> int:
    """Runs the contestant that the command line names."""
    contestant, folder, scope = sys.argv[1:]
    content = json.loads((Path(folder) / "recipe.json").read_text())
    tensors = CONTESTANTS[contestant](content, Path(folder), scope == "all")
    status = Path("/proc/self/status").read_text()  # getrusage would tell the parent's peak if that is higher
    peak_kib = int(status.split("VmHWM:")[1].split()[0])
    print(json.dumps({"tensors": tensors, "peak_mib": peak_kib / 1024}))
    return 0


def ours(content: Dict[str, Any], folder: Path, all_activations: bool) -> int:
    """Calibrates with edge_runtime into an empty cache."""
    from edge_runtime.builder.calibrate import CalibrationInputs, calibrated  # noqa: PLC0415
    from edge_runtime.builder.data import data_of  # noqa: PLC0415
    from edge_runtime.builder.float_model import float_model  # noqa: PLC0415
    from edge_runtime.builder.progress import LoggedProgress  # noqa: PLC0415
    from edge_runtime.builder.recipe import make_recipe  # noqa: PLC0415
    from edge_runtime.engine.engine import EngineInfo  # noqa: PLC0415

    recipe = make_recipe(content, "model", folder)
    model = float_model(recipe, EngineInfo(recipe.name, 1, "onnxruntime", "onnxruntime_onnx", "fp32", "cpu"))
    source = data_of(recipe, model.graph.inputs).calibration
    assert source is not None
    with tempfile.TemporaryDirectory() as calib_cache:
        given = CalibrationInputs(source, source.verified_key(), Path(calib_cache), LoggedProgress())
        calibration = calibrated(model.single, given, all_activations)
        return len(calibration.tables(recipe.tables.calibration)["entropy"].scales)


def minmax(content: Dict[str, Any], folder: Path, all_activations: bool) -> int:
    """Calibrates with ONNX Runtime's MinMax."""
    import numpy as np  # noqa: PLC0415
    from onnxruntime.quantization import calibrate  # noqa: PLC0415

    logging.disable(logging.WARNING)

    class Reader(calibrate.CalibrationDataReader):
        """Feeds, read one at a time."""

        def __init__(self, paths: Iterator[Path]) -> None:
            self._paths = paths

        def get_next(self) -> Dict[str, Any] | None:
            path = next(self._paths, None)
            return None if path is None else dict(np.load(path))

    calibrator = calibrate.create_calibrator(
        content["model"]["path"],
        None if all_activations else OPERATORS,
        str(folder / "augmented.onnx"),
        calibrate.CalibrationMethod.MinMax,
    )
    calibrator.collect_data(Reader(iter(sorted(folder.glob("[0-9]*.npz")))))
    return len(calibrator.compute_data().data)


CONTESTANTS = {"edge-runtime": ours, "minmax": minmax}

if __name__ == "__main__":
    sys.exit(main())

"""Whether a plan is for this machine, decided from its manifest alone."""

from __future__ import annotations

from edge_runtime import onnxruntime_api
from edge_runtime.errors import BackendUnavailableError, PlanTargetError
from edge_runtime.plan.manifest import Manifest

RUNNABLE_BACKENDS = ("onnxruntime",)


def check_target(manifest: Manifest) -> None:
    """Raises unless this machine can run the plan that `manifest` describes.

    A plan built for a GPU is never run on the CPU instead.

    Raises:
        PlanTargetError: built for a backend that this installation can't run.
        BackendUnavailableError: the backend's library isn't installed.
    """
    backend = manifest.backend.name
    if backend not in RUNNABLE_BACKENDS:
        raise PlanTargetError(
            f"plan {manifest.name!r} version {manifest.version}: built for backend {backend!r}, "
            f"this installation runs {', '.join(RUNNABLE_BACKENDS)}; build it here: edge-runtime build"
        )
    if onnxruntime_api.version() is None:
        raise BackendUnavailableError(
            f"plan {manifest.name!r}: backend onnxruntime isn't installed; pip install onnxruntime"
        )

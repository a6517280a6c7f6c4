"""Whether an engine answers as its plan did when it was built."""

from __future__ import annotations

import logging
from typing import Mapping

from edge_runtime.engine.engine import Engine
from edge_runtime.errors import BackendError, DeviceLostError, GoldenRunError
from edge_runtime.plan.golden import Golden
from edge_runtime.tensors import Shape, filled

logger = logging.getLogger(__name__)


def verified_golden(engine: Engine, golden: Golden | None) -> Golden | None:
    """The golden run of a warmed engine, with what this engine answers: later runs must repeat that.

    Of a plan without one, the first answer to made-up inputs; None if it can't run on those.

    Raises:
        GoldenRunError: it answers otherwise than the plan did when it was built.
        BackendError: the run failed.
    """
    if golden is None:
        return _first_answer(engine)
    outputs = engine.infer(golden.inputs)
    difference = golden.difference(outputs)
    if difference:
        raise GoldenRunError(
            f"model {engine.info.name!r} version {engine.info.version}: its golden run is wrong: {difference}; "
            "the plan, the engine library or the device is damaged: build it again (edge-runtime build --again), "
            "or see edge-runtime doctor --selftest"
        )
    if not golden.is_exact(outputs):
        logger.info(
            "model %s: its golden run differs in rounding from that of the machine that built it", engine.info.name
        )
    return Golden(golden.inputs, outputs, golden.origin)


def _first_answer(engine: Engine) -> Golden | None:
    signature = engine.signature
    shapes: Mapping[str, Shape] = {name: limits.minimum for name, limits in signature.profile.items()}
    for number in (1, 0):
        inputs = {spec.name: filled(shapes[spec.name], spec.dtype, number) for spec in signature.inputs}
        try:
            return Golden(inputs, engine.infer(inputs), "made up")
        except DeviceLostError:
            raise
        except BackendError as error:  # a size or a divisor that is fed in can't be zero
            failure = error
    logger.info("model %s: has no golden run: %s", engine.info.name, failure)
    return None

"""The golden run of a plan that is about to be published."""

from __future__ import annotations

from edge_runtime.builder.maker import Made, PlanMaker
from edge_runtime.builder.reference import Reference
from edge_runtime.builder.trial import typed
from edge_runtime.calibration.sample import Sample
from edge_runtime.errors import BackendError, BackendUnavailableError, InvalidRequestError
from edge_runtime.plan.golden import Golden
from edge_runtime.tensors import Feeds, Signature


def golden_run(made: Made, reference: Reference, maker: PlanMaker) -> Golden | None:
    """What a plan answers to the first held-out sample, or to made-up inputs where there is none that fits.

    None where no device runs it here, where it can't run on made-up inputs, or where no file can hold the tensors.
    """
    feeds, origin = reference.feeds, "made up"
    if reference.scoring is not None:
        fitting = _fitting(reference.scoring.first, made.signature)
        feeds, origin = (feeds, origin) if fitting is None else (fitting, "held out")
    feeds = typed(feeds, made.signature)
    try:
        with maker.opened(made) as engine:
            outputs = engine.infer(feeds)
    except BackendUnavailableError:
        return None
    except BackendError:
        if origin == "made up":
            return None
        raise
    golden = Golden(feeds, outputs, origin)
    return golden if golden.can_be_stored else None


def _fitting(sample: Sample, signature: Signature) -> Feeds | None:
    """The sample's feeds, of its first rows as few as the plan takes; None if they aren't within its shapes."""
    feeds: Feeds = sample.feeds
    if signature.max_batch_size and sample.rows:
        least = max(limits.minimum[0] for limits in signature.profile.values())
        feeds = {name: value[:least] for name, value in feeds.items()}
    try:
        for name, value in typed(feeds, signature).items():
            signature.check_input(name, signature.input(name).dtype, value.shape)
        signature.check_shapes({name: value.shape for name, value in feeds.items()})
    except InvalidRequestError:
        return None
    return feeds

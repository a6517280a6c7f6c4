"""Whether calibration data can be what a model meets: said before anything is calibrated on it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Iterable, Iterator, Literal, Tuple

import numpy as np

from edge_runtime.calibration.examination import Examination, examined
from edge_runtime.calibration.input_statistics import InputStatistics
from edge_runtime.calibration.resemblance import (
    are_apart,
    is_in_another_interval,
    is_scaled_or_shifted,
    usual_correlation,
)
from edge_runtime.calibration.sample import Sample

_FEWEST_ROWS = 32
_MOST_DUPLICATES = 0.05
_MOST_CONSTANT = 0.05
_MOST_SATURATED = 0.05
_MOST_OUTSIDE = 0.01
_MOST_UNSEEN = 0.25


@dataclass(frozen=True)
class Finding:
    """What is wrong with the data, in a sentence; `refuse` if nothing sound can come of it. `what` names the kind."""

    level: Literal["note", "refuse"]
    what: str
    text: str


@dataclass(frozen=True)
class Audit:
    """What was seen of the data, input by input, and what is to be said about it, worst first."""

    calibration: Examination
    held_out: Examination | None
    findings: Tuple[Finding, ...]

    @property
    def refusals(self) -> Tuple[Finding, ...]:
        """The findings that forbid to go on."""
        return tuple(finding for finding in self.findings if finding.level == "refuse")


def audit(calibration: Iterable[Sample], held_out: Iterable[Sample] | None) -> Audit:
    """What a pass over each says about the data.

    Raises:
        DataError: there is no sample, or what reading them raises.
    """
    seen = examined(calibration)
    return audited(seen, None if held_out is None else examined(held_out, seen))


def audited(calibration: Examination, held_out: Examination | None) -> Audit:
    """What examinations say about the data; `held_out` was examined against `calibration`.

    Channels in another order (RGB, BGR) can't be told from statistics, nor can rows that are nearly equal.
    """
    findings = list(_of_rows(calibration))
    if not any(finding.level == "refuse" for finding in findings):
        for name, ours in calibration.inputs.items():
            theirs = held_out.inputs.get(name) if held_out else None
            found = list(_alone(name, ours)) if theirs is None else _against_held_out(name, ours, theirs)
            if calibration.first.is_sequence:  # rows depend on each other, so what they have in common may be chance
                found = [replace(finding, level="note") for finding in found]
            findings += found
    return Audit(calibration, held_out, tuple(sorted(findings, key=lambda finding: finding.level, reverse=True)))


def _of_rows(calibration: Examination) -> Iterator[Finding]:
    rows, distinct = calibration.rows, len(calibration.fingerprints)
    several = [given for given in calibration.inputs.values() if given.values_per_row > 1]
    if rows > 2 and distinct == 1:
        text = (
            f"all {rows} calibration rows are equal, expected different ones; give samples as the model will meet them"
        )
        yield Finding("refuse", "equal", text)
    elif rows > 2 and several and all(given.constant_rows == given.rows for given in several):
        text = "every calibration row holds one value over and over; give samples as the model will meet them"
        yield Finding("refuse", "constant", text)
    elif calibration.duplicates > _MOST_DUPLICATES * rows:
        text = f"{calibration.duplicates} of {rows} calibration rows are duplicates, which tell nothing; give others"
        yield Finding("note", "duplicates", text)
    if rows < _FEWEST_ROWS:
        text = (
            f"there are {rows} calibration rows, expected {_FEWEST_ROWS} or more; give more, as different as they come"
        )
        yield Finding("note", "few", text)


def _alone(name: str, ours: InputStatistics, natural: float = 0.0) -> Iterator[Finding]:
    """A note on rows that don't vary, if they are more than what is natural."""
    share = ours.constant_rows / ours.rows
    if ours.is_measured and share > max(_MOST_CONSTANT, 3 * natural):
        text = (
            f"{_percent(share)} of input {name!r}'s calibration rows hold one value over and over; drop or replace them"
        )
        yield Finding("note", "constant-rows", text)


def _against_held_out(name: str, ours: InputStatistics, theirs: InputStatistics) -> list[Finding]:
    """What sets the calibration data apart from the held-out data."""
    if not ours.is_measured:
        return list(_unseen(name, theirs))
    found = [*_one_value(name, ours, theirs), *_noise(name, ours, theirs), *_normalisation(name, ours, theirs)]
    if found:
        return found
    natural = theirs.constant_rows / theirs.rows
    alone = _alone(name, ours, natural)
    return [*_channels(name, ours, theirs), *_outside(name, ours, theirs), *_saturated(name, ours, theirs), *alone]


def _one_value(name: str, ours: InputStatistics, theirs: InputStatistics) -> Iterator[Finding]:
    if ours.rows > 2 and ours.constant_rows == ours.rows and theirs.constant_rows < theirs.rows / 2:
        text = f"every calibration row of input {name!r} holds one value over and over, held-out rows don't"
        yield Finding("refuse", "constant", f"{text}; give the values that the model will meet")


def _noise(name: str, ours: InputStatistics, theirs: InputStatistics) -> Iterator[Finding]:
    """White noise where held-out rows are smooth: neighbouring values of images, sound and series are alike."""
    got, want = usual_correlation(ours), usual_correlation(theirs)
    if got is not None and want is not None and got < 0.1 and want > 0.5:
        text = (
            f"input {name!r}: neighbouring calibration values have a correlation of {got:.2f}, held-out ones {want:.2f}"
        )
        yield Finding("refuse", "noise", f"{text}: this is noise; calibrate on real samples")


def _normalisation(name: str, ours: InputStatistics, theirs: InputStatistics) -> Iterator[Finding]:
    if is_scaled_or_shifted(ours.row, theirs.row) or is_in_another_interval(ours, theirs):
        text = (
            f"input {name!r} is normalised otherwise in calibration data: {_spread(ours)}, held-out {_spread(theirs)}"
        )
        yield Finding("refuse", "normalisation", f"{text}; prepare both alike")


def _channels(name: str, ours: InputStatistics, theirs: InputStatistics) -> Iterator[Finding]:
    """Channels that are normalised otherwise while the whole isn't: a note, for channels do differ by nature."""
    pairs = zip(ours.channel_mean, ours.channel_std, theirs.channel_mean, theirs.channel_std)
    odd = [
        channel
        for channel, (mean, std, their_mean, their_std) in enumerate(pairs)
        if abs(mean - their_mean) > 2 * their_std or not their_std / 3 <= std <= 3 * their_std
    ]
    if odd and len(ours.channel_mean) == len(theirs.channel_mean):
        yield Finding(
            "note",
            "channels",
            f"input {name!r}: channel {odd[0]} has mean {_number(ours.channel_mean[odd[0]])} and standard deviation "
            f"{_number(ours.channel_std[odd[0]])} in calibration, {_number(theirs.channel_mean[odd[0]])} and "
            f"{_number(theirs.channel_std[odd[0]])} held out; check that both are normalised alike",
        )


def _outside(name: str, ours: InputStatistics, theirs: InputStatistics) -> Iterator[Finding]:
    """Held-out values that the calibrated range clips; of rows alike, 2 in n + 1 are at most to be expected."""
    share = theirs.outside or 0.0
    expected = 2 / (ours.rows + 1)
    is_apart = are_apart(ours.row.low, theirs.row.low) or are_apart(ours.row.high, theirs.row.high)
    is_refused = is_apart and ours.std > 0 and (share == 1 or share > max(0.25, 5 * expected))
    if is_refused or share > max(_MOST_OUTSIDE, 3 * expected if ours.values_per_row < 64 else 0.0):
        text = f"{_percent(share)} of input {name!r}'s held-out values lie outside the calibration data's range, "
        text += f"{_number(ours.low)} to {_number(ours.high)}; calibrate on samples that cover it"
        yield Finding("refuse" if is_refused else "note", "outside", text)


def _saturated(name: str, ours: InputStatistics, theirs: InputStatistics) -> Iterator[Finding]:
    """Values of most rows that pile up at an end of the range (zeros pad), where held-out ones don't."""
    lows = (ours.low, ours.row.low, ours.low_share, theirs.low_share)
    highs = (ours.high, ours.row.high, ours.high_share, theirs.high_share)
    for value, rows, share, their_share in (lows, highs):
        is_usual = value != 0 and ours.low < ours.high and len(rows) >= 8 and np.mean(rows == value) > 0.5
        if is_usual and share > max(_MOST_SATURATED, 3 * their_share):
            text = f"{_percent(share)} of input {name!r}'s calibration values are at an end of their range, "
            text += f"{_number(value)}, but {_percent(their_share)} of held-out ones; give samples that weren't clipped"
            yield Finding("note", "saturated", text)


def _unseen(name: str, theirs: InputStatistics) -> Iterator[Finding]:
    if theirs.unseen is not None and theirs.unseen > _MOST_UNSEEN:
        text = f"{_percent(theirs.unseen)} of input {name!r}'s held-out values never occur in the calibration data; "
        yield Finding("note", "unseen", f"{text}give more of it, or more like what the model will meet")


def _spread(given: InputStatistics) -> str:
    return f"values of {_number(given.low)} to {_number(given.high)}, {_number(given.mean)} +/- {_number(given.std)}"


def _percent(share: float) -> str:
    return f"{100 * share:.3g} %"


def _number(value: float) -> str:
    return f"{value:.4g}"

"""Plans that run one after the other as one: a model that was split, so that other work can come in between."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from typing import Any, Callable, Dict, FrozenSet, List, Mapping, Protocol, Sequence, Tuple

import numpy as np
import numpy.typing as npt

from edge_runtime.engine.engine import Slot
from edge_runtime.errors import BackendError
from edge_runtime.tensors import Shape, Signature

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class Links:
    """How a slot of one part hangs together with those of the others, by tensor name.

    `lent` is memory of earlier slots, which this one reads. `lends` are the largest shapes of outputs that later slots
    read where this one puts them; of these, nobody outside of the chain reads the `hidden` ones.
    """

    lent: Mapping[str, Any]
    lends: Mapping[str, Shape]
    hidden: FrozenSet[str]


UNLINKED = Links({}, {}, frozenset())


class PartSlot(Slot, Protocol):
    """A slot of one part; each output that it lends is in the memory that it lends after every run."""

    def memory_of(self, name: str) -> Any:
        """What a slot of a later part reads the tensor from."""


class PartMaker(Protocol):
    """Makes slots of one part."""

    def can_share(self, name: str) -> bool:
        """Whether a tensor of this part can lie in memory that slots of other parts use too."""

    def linked(self, links: Links) -> PartSlot:
        """A slot that hangs together with those of other parts."""


@dataclass(frozen=True)
class ChainPart:
    """One part: the maker of its slots, and what it takes and gives."""

    maker: PartMaker
    signature: Signature


class _Wiring:
    """Which part reads and makes which tensor, and which tensors lie in memory that parts share. Pure."""

    def __init__(self, parts: Sequence[ChainPart], signature: Signature) -> None:
        self.readers: Dict[str, List[int]] = {}
        self.makers: Dict[str, int] = {}
        for index, part in enumerate(parts):
            for spec in part.signature.inputs:
                self.readers.setdefault(spec.name, []).append(index)
            for spec in part.signature.outputs:
                if spec.name not in part.signature.profile:  # else it is an input, handed on
                    self.makers[spec.name] = index
        self._parts = parts
        self._outputs = {spec.name for spec in signature.outputs}
        self.shared = {name for name in self.readers if self._is_shared(name)}

    def _is_shared(self, name: str) -> bool:
        users = {*self.readers[name], *([self.makers[name]] if name in self.makers else [])}
        return len(users) > 1 and all(self._parts[index].maker.can_share(name) for index in users)

    def crossing(self, index: int) -> List[str]:
        """What a part takes of earlier parts."""
        return [spec.name for spec in self._parts[index].signature.inputs if spec.name in self.makers]

    def links(self, index: int, slots: Sequence[PartSlot]) -> Links:
        """The links of a part, after the slots of those before it."""
        signature = self._parts[index].signature
        lent = {}
        for spec in signature.inputs:
            owner = self.makers.get(spec.name, self.readers[spec.name][0])
            if spec.name in self.shared and owner < index:
                lent[spec.name] = slots[owner].memory_of(spec.name)
        lends = {
            spec.name: self._parts[self.readers[spec.name][0]].signature.profile[spec.name].maximum
            for spec in signature.outputs
            if spec.name in self.shared and self.makers.get(spec.name) == index
        }
        return Links(lent, lends, frozenset(lends.keys() - self._outputs))


def chain_slot_maker(parts: Sequence[ChainPart], signature: Signature, what: str) -> Callable[[], ChainSlot]:
    """A maker of slots that run all parts in order; `signature` is that of the whole."""
    wiring = _Wiring(parts, signature)
    return lambda: ChainSlot(parts, signature, wiring, what)


class ChainSlot:
    """One slot for each part. What goes from part to part lies in memory that both use, where they can.

    Else it is copied, once. At shapes that were seen before, a run allocates nothing.
    """

    def __init__(self, parts: Sequence[ChainPart], signature: Signature, wiring: _Wiring, what: str) -> None:
        self._signature = signature
        self._parts = parts
        self._wiring = wiring
        self._what = what
        self._next = 0
        self._slots: List[PartSlot] = []
        self._crossing = [wiring.crossing(index) for index in range(len(parts))]
        self._repeated = [_repeated(wiring, part.signature, index) for index, part in enumerate(parts)]
        self._made: Dict[str, Array] = {}
        self._fed: Dict[str, Array] = {}
        with contextlib.ExitStack() as undo:
            undo.callback(self.close)
            for index, part in enumerate(parts):
                self._slots.append(part.maker.linked(wiring.links(index, self._slots)))
            undo.pop_all()

    @property
    def segment_count(self) -> int:
        """How many parts there are."""
        return len(self._parts)

    def bind(self, name: str, shape: Shape) -> Array:
        """A writable view of this slot's memory for an input; `shape` lies inside the profile."""
        first, *others = self._wiring.readers[name]
        view = self._slots[first].bind(name, shape)
        for index in others:
            self._slots[index].bind(name, shape)
        self._fed[name] = view
        return view

    def run(self) -> Dict[str, Array]:
        """Runs what is bound through all parts; outputs hold until the next run.

        Raises:
            BackendError: the engine library failed.
        """
        outputs: Dict[str, Array] | None = None
        for index in range(len(self._parts)):
            outputs = self.run_segment(index)
        assert outputs is not None
        return outputs

    def run_segment(self, index: int) -> Dict[str, Array] | None:
        """Runs one part, of those from 0 on in order; the last one gives the outputs, which hold until the next run.

        A run that was begun may be left: part 0 begins another one.

        Raises:
            BackendError: the engine library failed, or it isn't this part's turn.
        """
        if index not in (0, self._next):
            raise BackendError(f"{self._what}: expected segment {self._next} of a run or the first one, got {index}")
        self._next = 0
        slot = self._slots[index]
        for name in self._crossing[index]:
            self._hand_over(name, index)
        for name in self._repeated[index]:
            np.copyto(slot.bind(name, self._fed[name].shape), self._fed[name])
        self._made.update(slot.run())
        self._next = (index + 1) % len(self._parts)
        return None if self._next else {spec.name: self._made[spec.name] for spec in self._signature.outputs}

    def _hand_over(self, name: str, index: int) -> None:
        """Gives a part what an earlier one made: its shape, and a copy of its values unless they share them."""
        value = self._made[name]
        limits = self._parts[index].signature.profile[name]
        if not limits.contains(value.shape):
            raise BackendError(
                f"{self._what}: tensor {name!r} goes from one part to another: expected shape {limits}, "
                f"got {list(value.shape)}; build it again, cut elsewhere"
            )
        view = self._slots[index].bind(name, value.shape)
        if name not in self._wiring.shared:
            np.copyto(view, value)

    def close(self) -> None:
        """Gives the slots of all parts back; idempotent."""
        self._made.clear()
        self._fed.clear()
        with contextlib.ExitStack() as stack:
            for slot in self._slots:
                stack.callback(slot.close)


def part_text(what: str, number: int, count: int) -> str:
    """What messages call a part, counted from 0."""
    return f"{what}, part {number + 1} of {count}"


def _repeated(wiring: _Wiring, signature: Signature, index: int) -> Tuple[str, ...]:
    """The inputs of the model that a part has in memory of its own, though an earlier one reads them too."""
    return tuple(
        spec.name
        for spec in signature.inputs
        if spec.name not in wiring.makers and spec.name not in wiring.shared and wiring.readers[spec.name][0] < index
    )

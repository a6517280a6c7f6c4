"""Which ONNX nodes a TensorRT layer was fused from, read from its metadata or from its name."""

from __future__ import annotations

import re
from typing import Dict, Iterable, List, Sequence, Set, Tuple

_METADATA = re.compile(r"\[ONNX Layer: (.*?)\](?=$|[\x1e\x1f]|\s*\[ONNX Layer: )", re.DOTALL)
_REFORMAT = re.compile(r"Reformatting CopyNode|.* (in|out)put reformatter \d+$", re.DOTALL)
_INSERTED = re.compile(
    r"(copied_)?(un)?squeeze_(node_)?(after|before)_|\(Unnamed Layer\* \d+\)|\[.*\]$|__my", re.DOTALL
)
_MYELIN = re.compile(r"_myl\d+_\d+$")
_RANGE = re.compile(r"\{ForeignNode\[(.*)\]\}", re.DOTALL)
_BEFORE = re.compile(r"^|PWN\(|\(| \+ |\+| \|\| |, |: ")
_AFTER = re.compile(r"$|\)| \+ |\+| \|\| |, |_myl\d+_\d+$")
_JOINT = re.compile(r" \+ | \|\| |, ")
_ELLIPSIS = "..."


def is_reformat(layer: str) -> bool:
    """Whether a layer only changes a tensor's format, which stems from no ONNX node."""
    return _REFORMAT.match(layer) is not None


class NodeNames:
    """The names of an ONNX graph's nodes, in its order, to be found in TensorRT's names of layers.

    Without any (they aren't known) a layer's name is taken apart where TensorRT joins names.
    """

    def __init__(self, names: Sequence[str]) -> None:
        self._names = names
        self._places = {name: place for place, name in enumerate(names)}
        self._rewritten: Dict[str, str] = {}
        for name in names:
            self._rewritten.setdefault(name.replace(".", "_"), name)

    def of_layers(self, layers: Iterable[Tuple[str, str]]) -> List[Tuple[str, ...]]:
        """The nodes of each layer, given as name and metadata ("" if it has none).

        A layer that is named as a range of nodes gets those that no other layer names.
        """
        given = list(layers)
        found = [self._named(name, metadata) for name, metadata in given]
        taken = {node for nodes in found for node in nodes}
        return [nodes or self._range(name, taken) for nodes, (name, _) in zip(found, given)]

    def _named(self, layer: str, metadata: str) -> Tuple[str, ...]:
        if is_reformat(layer):
            return ()
        listed = tuple(dict.fromkeys(_METADATA.findall(metadata)))
        if listed or _RANGE.fullmatch(layer):
            return listed
        return self._parts(layer) if self._names else _taken_apart(layer)

    def _parts(self, layer: str) -> Tuple[str, ...]:
        """The known names in a layer's, the longest where several begin at one place."""
        begins = [match.end() for match in _BEFORE.finditer(layer)]
        ends = [match.start() for match in _AFTER.finditer(layer)][::-1]
        found: Dict[str, None] = {}
        position = 0
        for begin in begins:
            if begin < position:
                continue
            for end in (end for end in ends if end > begin):
                node = self._known(layer[begin:end])
                if node is not None:
                    found[node] = None
                    position = end
                    break
        return tuple(found)

    def _known(self, text: str) -> str | None:
        """The node of that name; TensorRT's compiler writes `_` for `.` in names."""
        return text if text in self._places else self._rewritten.get(text)

    def _range(self, layer: str, taken: Set[str]) -> Tuple[str, ...]:
        match = _RANGE.fullmatch(layer)
        if match is None:
            return ()
        first, last = self._ends(match.group(1))
        if first in self._places and last in self._places and self._places[first] <= self._places[last]:
            nodes = self._names[self._places[first] : self._places[last] + 1]
            return tuple(node for node in nodes if node not in taken)
        ends = dict.fromkeys((first, last))
        return tuple(node for node in ends if node and (node in self._places or not self._names))

    def _ends(self, text: str) -> Tuple[str, str]:
        """The first and last node of `first...last`, either of which may hold dots, or one alone."""
        cuts = [place for place in range(len(text)) if text.startswith(_ELLIPSIS, place)]
        pairs = [(text[:place], text[place + len(_ELLIPSIS) :]) for place in cuts] or [(text, text)]
        return max(pairs, key=lambda pair: sum(end in self._places for end in pair))


def _taken_apart(layer: str) -> Tuple[str, ...]:
    """What a layer's name is made of, without what TensorRT put in."""
    parts: Dict[str, None] = {}
    for part in _JOINT.split(_MYELIN.sub("", layer).replace("PWN(", "")):
        text = part
        while text.endswith(")") and text.count("(") < text.count(")"):
            text = text[:-1]
        if text and not _INSERTED.match(text):
            parts[text] = None
    return tuple(parts)

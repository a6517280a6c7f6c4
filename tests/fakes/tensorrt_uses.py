"""Which of TensorRT's names a Python source touches, read from its syntax tree."""

from __future__ import annotations

import ast
import re
from typing import Dict, Iterator, List, Set, Tuple

Path = Tuple[str, ...]  # of names below the module: ("BuilderFlag", "FP16")

# What people call an object of a class, in the sources that talk to TensorRT.
_OBJECTS = {
    "engine": "ICudaEngine",
    "_engine": "ICudaEngine",
    "context": "IExecutionContext",
    "_context": "IExecutionContext",
    "builder": "Builder",
    "config": "IBuilderConfig",
    "definition": "INetworkDefinition",
    "_parser": "OnnxParser",
    "layer": "ILayer",
    "runtime": "Runtime",
    "_runtime": "Runtime",
    "inspector": "EngineInspector",
    "added": "IOptimizationProfile",
    "cache": "ITimingCache",
    "others": "ITimingCache",
}
_MEMBER = re.compile(r"[A-Z][A-Z0-9]*(_[A-Z0-9]+)*")


class Uses:
    """The names that a source touches.

    `paths` start at the module (`library.module.X.Y`, a local name for one, `getattr` and `hasattr` with a text);
    `members` are attributes of objects whose name says their class; `words` are texts that may name enum members.
    """

    def __init__(self, source: str) -> None:
        self._tree = ast.parse(source)
        self._local = self._local_names()
        nodes = list(ast.walk(self._tree))
        self.paths: Set[Path] = {path for node in nodes for path in self._paths(node)}
        self.members: Set[Path] = {path for node in nodes for path in self._members(node)}
        self.words: Set[str] = {word for node in nodes for word in _words(node)}

    def _local_names(self) -> Dict[str, Path]:
        """Local names for the module, or for something below it."""
        found: Dict[str, Path] = {}
        for node in ast.walk(self._tree):
            if isinstance(node, ast.Assign) and len(node.targets) == 1 and isinstance(node.targets[0], ast.Name):
                path = self._path(node.value, found)
                if path is not None:
                    found[node.targets[0].id] = path
        return found

    def _path(self, node: ast.AST, local: Dict[str, Path]) -> Path | None:
        """The names below the module that an expression goes through; None for what doesn't start there."""
        if isinstance(node, ast.Name):
            return local.get(node.id)
        if not isinstance(node, ast.Attribute):
            return None
        above = self._path(node.value, local)
        if above is not None:
            return (*above, node.attr)
        return () if node.attr == "module" else None

    def _paths(self, node: ast.AST) -> Iterator[Path]:
        path = self._path(node, self._local)
        if path:
            yield path[:2] if path[-1] in ("__init__", "__name__", "__members__") else path
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and len(node.args) > 1:
            above, name = self._path(node.args[0], self._local), node.args[1]
            if node.func.id in ("getattr", "hasattr") and above is not None and isinstance(name, ast.Constant):
                yield (*above, str(name.value))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "_has":
            for argument in node.args:
                if isinstance(argument, ast.Constant):
                    yield tuple(str(argument.value).split("."))

    def _members(self, node: ast.AST) -> Iterator[Path]:
        if isinstance(node, ast.Attribute):
            owner = node.value
            name = owner.id if isinstance(owner, ast.Name) else owner.attr if isinstance(owner, ast.Attribute) else ""
            if name in _OBJECTS:
                yield _OBJECTS[name], node.attr


def _words(node: ast.AST) -> List[str]:
    if isinstance(node, ast.Constant) and isinstance(node.value, str) and _MEMBER.fullmatch(node.value):
        return [node.value] if len(node.value) > 2 else []
    return []

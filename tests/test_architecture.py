"""The house rules: layers, cycles, boundaries, sizes and names, read from the source itself."""

from __future__ import annotations

import ast
import statistics
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1] / "edge_runtime"
LAYERS = {
    "cli": 8,
    "provisioning": 7,
    "builder": 6,
    "server": 6,
    "profiler": 6,
    "calibration": 5,
    "client": 5,
    "pipelines": 5,
    "engine": 4,
    "evaluation": 4,
    "scheduling": 4,
    "plan": 3,
    "graph": 2,
    "wire": 2,
    "tensorrt_api": 2,
    "onnxruntime_api": 2,
    "device": 1,
    "config": 0,
    "tensors": 0,
    "errors": -1,  # of layer 0, and the root of it: every module may name an error
}
BOUNDARIES = {
    "onnx": {"graph"},
    "onnxruntime": {"onnxruntime_api"},
    "tensorrt": {"tensorrt_api"},
    "tensorrt_rtx": {"tensorrt_api"},
    "cuda": {"device"},
    "pycuda": {"device"},
    "pynvml": {"device"},
    "jtop": {"device"},
    "matplotlib": {"profiler"},
    "cryptography": {"plan"},
}
FORBIDDEN_NAMES = {"utils", "util", "common", "helpers", "helper", "misc"}
GENERATED = {"descriptors.py"}


class Module:
    """One source file: its dotted name, its tree, and what it imports anywhere in it."""

    def __init__(self, path: Path) -> None:
        parts = path.relative_to(ROOT.parent).with_suffix("").parts
        self.path = path
        self.is_package = parts[-1] == "__init__"
        self.name = ".".join(parts[:-1] if self.is_package else parts)
        self.tree = ast.parse(path.read_text())
        self.lines = path.read_text().count("\n")

    @property
    def room(self) -> str:
        return self.name.split(".")[1] if "." in self.name else ""

    def imports(self) -> set[str]:
        found = set()
        for node in ast.walk(self.tree):
            if isinstance(node, ast.Import):
                found.update(alias.name for alias in node.names)
            elif isinstance(node, ast.ImportFrom):
                assert node.level == 0, f"{self.path}:{node.lineno}: relative import"
                found.update(f"{node.module}.{alias.name}" for alias in node.names)
        return found

    def functions(self) -> list[ast.FunctionDef | ast.AsyncFunctionDef]:
        return [n for n in ast.walk(self.tree) if isinstance(n, (ast.FunctionDef, ast.AsyncFunctionDef))]

    def classes(self) -> list[ast.ClassDef]:
        return [n for n in ast.walk(self.tree) if isinstance(n, ast.ClassDef)]


MODULES = {m.name: m for m in (Module(path) for path in sorted(ROOT.rglob("*.py")))}
NAMED = pytest.mark.parametrize("module", MODULES.values(), ids=lambda m: m.name)


def own_modules(module: Module) -> set[str]:
    """The modules of ours that `module` imports; `from package import name` is the module or the package's __init__."""
    found = set()
    for name in module.imports():
        candidates = [name, name.rpartition(".")[0]]
        found.update([next(c for c in candidates if c in MODULES)] if any(c in MODULES for c in candidates) else [])
    return found - {module.name}


@NAMED
def test_imports_go_to_a_strictly_lower_layer_or_stay_in_the_package(module: Module) -> None:
    for target in own_modules(module):
        room = MODULES[target].room
        if not module.room or not room or room == module.room:
            continue  # the package's own __init__ names its public homes lazily, and holds the version
        assert LAYERS[room] < LAYERS[module.room], f"{module.name} imports {target}"


@NAMED
def test_every_room_has_a_layer(module: Module) -> None:
    assert not module.room or module.room in LAYERS


def test_no_import_cycles() -> None:
    graph = {name: own_modules(module) for name, module in MODULES.items()}
    graph["edge_runtime"] = set()  # resolved by __getattr__ when asked for
    done: set[str] = set()

    def visit(name: str, path: tuple[str, ...]) -> None:
        assert name not in path, " -> ".join((*path, name))
        if name not in done:
            for target in graph[name]:
                visit(target, (*path, name))
            done.add(name)

    for name in graph:
        visit(name, ())


@NAMED
def test_a_third_party_library_has_one_boundary(module: Module) -> None:
    for name in module.imports():
        allowed = BOUNDARIES.get(name.split(".")[0])
        assert allowed is None or module.room in allowed, f"{module.name} imports {name}"


@NAMED
def test_sizes(module: Module) -> None:
    if module.path.name in GENERATED:
        return
    assert module.lines <= 400
    for function in module.functions():
        length = (function.end_lineno or function.lineno) - function.lineno + 1
        assert length <= 60, f"{module.name}.{function.name} has {length} lines"
        arguments = [a.arg for a in (*function.args.posonlyargs, *function.args.args, *function.args.kwonlyargs)]
        count = len([name for name in arguments if name not in ("self", "cls")])
        assert count <= 6 or module.room == "cli", f"{module.name}.{function.name} has {count} parameters"
    for cls in module.classes():
        methods = [node for node in cls.body if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))]
        assert len(methods) <= 15, f"{module.name}.{cls.name} has {len(methods)} methods"


def test_the_median_file_is_small() -> None:
    assert statistics.median(m.lines for m in MODULES.values() if not m.is_package) <= 150


def test_inheritance_is_at_most_two_deep() -> None:
    bases = {
        cls.name: [base.id for base in cls.bases if isinstance(base, ast.Name)]
        for module in MODULES.values()
        for cls in module.classes()
        if module.room != "errors"
    }

    def depth(name: str) -> int:
        return 1 + max((depth(base) for base in bases[name] if base != name), default=0) if name in bases else 0

    too_deep = [name for name in bases if depth(name) > 2 + 1]  # the class itself, and two of ours above it
    assert not too_deep


@NAMED
def test_names_and_habits(module: Module) -> None:
    assert module.path.stem not in FORBIDDEN_NAMES
    assert not any(isinstance(node, ast.Global) for node in ast.walk(module.tree))
    if module.tree.body and not module.is_package:
        text = module.path.read_text()
        assert "from __future__ import annotations" in text
    for node in ast.walk(module.tree):
        if isinstance(node, ast.ExceptHandler):
            assert node.type is not None, f"{module.name}:{node.lineno}: bare except"

"""NVIDIA's own bindings of a TensorRT, as tools/tensorrt_bindings.py described them: no fake, but no TensorRT."""

from __future__ import annotations

import functools
import importlib.util
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any, Dict, List, Tuple

ROOT = Path(__file__).resolve().parents[2]
FOLDER = Path(sys.prefix) / "bindings"  # where `make test` puts them
VERSIONS = ("8.6.1", "10.3", "10.13", "11.4")
# Which of them a surface of the fakes is checked against. There are no wheels of 8.2, 8.4 and 8.5.
NEAREST = dict.fromkeys(("8.2", "8.4", "8.5", "8.6"), "8.6.1")


class Bindings:
    """The names and signatures of one version, and a Python process that has it imported."""

    def __init__(self, version: str) -> None:
        self.version = version
        self._folder = FOLDER / version
        self._surface: Dict[str, Any] = json.loads((self._folder / "surface.json").read_text())

    @property
    def classes(self) -> Dict[str, Dict[str, Any]]:
        return dict(self._surface["classes"])

    def has(self, *path: str) -> bool:
        """Whether the module has a dotted name: a class, one of its attributes, or a function."""
        if len(path) == 1:
            return path[0] in self._surface["names"]
        owner, *rest = path
        if owner == "ILogger" and rest[0] == "Severity" and len(rest) > 1:
            owner, rest = "Severity", rest[1:]
        return rest[0] in self.attributes(owner)

    def attributes(self, owner: str) -> Dict[str, Dict[str, Any]]:
        return dict(self.classes.get(owner, {}).get("attributes", {}))

    def enum(self, name: str) -> Dict[str, int]:
        return dict(self.classes.get(name, {}).get("enum") or {})

    def overloads(self, owner: str, name: str) -> List[Tuple[str, ...]]:
        """The names of the arguments of each overload, without self; "arg0" is an argument without a name."""
        doc = self._surface["functions"].get(name, "") if not owner else self.attributes(owner)[name]["doc"]
        found = [_argument_names(line, name) for line in doc.splitlines()]
        return [names for names in found if names is not None]

    def callback(self, owner: str, name: str) -> Tuple[str, ...] | None:
        """The argument names of a method that people override; for some, only the class's text has them."""
        if name in self.attributes(owner):
            return next(iter(self.overloads(owner, name)), None)
        example = re.search(rf"def {name}\(self(?:, )?([^)]*)\)", self.classes[owner]["doc"])
        return tuple(re.findall(r"\w+", example.group(1))) if example else None

    @functools.lru_cache(maxsize=None)  # noqa: B019 - there are four of them
    def run(self, code: str) -> Any:
        """What `code` prints, as JSON, in a process of its own; `tensorrt_bindings` and the project can be imported."""
        environment = _tool().environment(self._folder)
        environment["PYTHONPATH"] += f":{ROOT}"
        command = [sys.executable, "-W", "ignore", "-c", code]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=120)
        assert done.returncode == 0, done.stderr[-2000:]
        return json.loads(done.stdout)


def available() -> Tuple[str, ...]:
    """The versions that are there; none has wheels for every Python."""
    return tuple(version for version in VERSIONS if (FOLDER / version / "surface.json").is_file())


def _argument_names(line: str, name: str) -> Tuple[str, ...] | None:
    match = re.match(rf"\s*(?:\d+\. )?{re.escape(name)}\((.*)\)(?: -> .*)?$", line)
    if match is None or match.group(1).startswith("*args"):
        return None
    names = re.findall(r"(?:^|, )(\w+): ", _without_brackets(match.group(1)))
    return tuple(names[1:] if names and names[0] == "self" else names)


def _without_brackets(text: str) -> str:
    """The text without what is in brackets, where commas don't part arguments."""
    before = None
    while text != before:
        before, text = text, re.sub(r"\[[^][]*\]|<[^<>]*>|\([^()]*\)", "", text)
    return text


def _tool() -> Any:
    spec = importlib.util.spec_from_file_location("tensorrt_bindings_tool", ROOT / "tools/tensorrt_bindings.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module

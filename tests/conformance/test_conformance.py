"""The fakes have no name, member or keyword that NVIDIA's bindings lack."""

from __future__ import annotations

import inspect
import sys
from typing import Any, Callable, Dict, Iterator, List, Tuple

import pytest
from fakes.tensorrt import fake_tensorrt
from fakes.tensorrt_bindings import NEAREST, Bindings, available
from fakes.tensorrt_enums import enums_of
from fakes.tensorrt_surfaces import SURFACES, names_of

from edge_runtime.tensorrt_api import capabilities_of

At = Callable[[str], Bindings]

every_surface = pytest.mark.parametrize("surface", SURFACES)


def missing_names(names: Dict[str, Tuple[str, ...]], real: Bindings) -> List[str]:
    """What of the names of classes, or of functions under "", the bindings lack."""
    paths = [(owner, name) if owner else (name,) for owner, group in names.items() for name in group]
    return [".".join(path) for path in paths if not real.has(*path)]


def public_functions(surface: str) -> Iterator[Tuple[str, str, Any]]:
    module = fake_tensorrt(surface)
    for owner, names in names_of(surface).items():
        for name in names:
            value = inspect.getattr_static(getattr(module, owner) if owner else module, name)
            if inspect.isfunction(value) and name[0] != "_":
                yield owner, name, value


def takes_like(function: Any, overloads: List[Tuple[str, ...]]) -> bool:
    """Whether one overload has these arguments: those with a keyword by that name, the others by their number."""
    parameters = [p for p in inspect.signature(function).parameters.values() if p.name != "self"]
    named = [p.name for p in parameters if p.kind is p.POSITIONAL_OR_KEYWORD]
    without = len(parameters) - len(named)
    return any(len(names) == len(parameters) and list(names[without:]) == named for names in overloads)


@pytest.mark.skipif(not (3, 8) <= sys.version_info[:2] <= (3, 11), reason="8.6.1 has wheels for Python 3.8 to 3.11")
@pytest.mark.skipif(not available(), reason="no bindings were fetched: make .venv/bindings")
def test_several_versions_are_there_to_check_against() -> None:
    assert len(available()) >= 3


@every_surface
def test_every_name_of_a_fake_is_in_the_bindings(surface: str, bindings: At) -> None:
    real = bindings(NEAREST.get(surface, surface))
    assert missing_names(names_of(surface), real) == []


@every_surface
def test_every_member_of_a_fake_enumeration_has_its_number(surface: str, bindings: At) -> None:
    real = bindings(NEAREST.get(surface, surface))
    for name, members in enums_of(surface, SURFACES).items():
        assert members.items() <= real.enum(name).items(), name


@every_surface
def test_every_argument_of_a_fake_has_the_bindings_keyword(surface: str, bindings: At) -> None:
    real = bindings(NEAREST.get(surface, surface))
    wrong = [
        (owner, name, real.overloads(owner, name))
        for owner, name, function in public_functions(surface)
        if name != "volume" and not takes_like(function, real.overloads(owner, name))  # that one is written in Python
    ]
    assert wrong == []


@every_surface
def test_a_property_of_a_fake_is_one_in_the_bindings(surface: str, bindings: At) -> None:
    real = bindings(NEAREST.get(surface, surface))
    module = fake_tensorrt(surface)
    for owner, names in names_of(surface).items():
        for name in names if owner else ():
            value = inspect.getattr_static(getattr(module, owner), name)
            kind = real.attributes(owner)[name]
            if isinstance(value, property):
                assert kind["kind"] == "property", (owner, name)
                assert value.fset is None or kind["is_writable"], (owner, name)
            elif inspect.isfunction(value):
                assert kind["kind"] != "property", (owner, name)


ALWAYS = "BUILDER RUNTIME TIMING_CACHE DLA INSPECTOR PROFILER DETAILED_PROFILING PLUGINS"
UNTIL_10 = f"{ALWAYS} EXPLICIT_BATCH PRECISION_FLAGS PRECISION_CONSTRAINTS CALIBRATOR"
FROM_8_6 = "NAME_IO OUTPUT_ALLOCATOR MEMORY_POOLS OPTIMIZATION_LEVEL VERSION_COMPATIBLE HARDWARE_COMPATIBLE"
CAPABILITIES = {
    "8.2": f"{UNTIL_10} INDEX_IO WORKSPACE_SIZE",
    "8.4": f"{UNTIL_10} INDEX_IO WORKSPACE_SIZE MEMORY_POOLS",
    "8.5": f"{UNTIL_10} INDEX_IO WORKSPACE_SIZE MEMORY_POOLS NAME_IO OUTPUT_ALLOCATOR",
    "8.6": f"{UNTIL_10} INDEX_IO WORKSPACE_SIZE {FROM_8_6} PROFILE_SHARING",
    "10.3": f"{UNTIL_10} {FROM_8_6} PROFILE_SHARING STRONG_TYPING PROGRESS",
    "10.13": f"{UNTIL_10} {FROM_8_6} PROFILE_SHARING STRONG_TYPING PROGRESS",
    "11.4": f"{ALWAYS} {FROM_8_6} STRONG_TYPING ALWAYS_STRONG PROGRESS",
}


@pytest.mark.parametrize(("surface", "names"), CAPABILITIES.items())
def test_what_a_fake_can(surface: str, names: str) -> None:
    assert {capability.name for capability in capabilities_of(fake_tensorrt(surface))} == set(names.split())


@pytest.mark.parametrize("surface", ["8.6", "10.3", "10.13", "11.4"])
def test_the_bindings_can_the_same(surface: str, bindings: At) -> None:
    code = (
        "import json, tensorrt_bindings as trt; from edge_runtime.tensorrt_api import capabilities_of; "
        "print(json.dumps([capability.name for capability in capabilities_of(trt)]))"
    )
    real = bindings(NEAREST.get(surface, surface))
    assert set(real.run(code)) == set(CAPABILITIES[surface].split())


@pytest.mark.parametrize(
    "names",
    [{"Builder": ("build_plan",)}, {"IBuilder": ("reset",)}, {"BuilderFlag": ("FP17",)}, {"": ("load_plugins",)}],
    ids=str,
)
def test_a_name_that_was_made_up_is_found(names: Dict[str, Tuple[str, ...]], bindings: At) -> None:
    assert missing_names(names, bindings("10.3"))


def test_a_keyword_that_was_made_up_is_found(bindings: At) -> None:
    def set_flag(self: object, flags: object) -> None: ...

    assert not takes_like(set_flag, bindings("10.3").overloads("IBuilderConfig", "set_flag"))


def test_names_of_another_version_are_found(bindings: At) -> None:
    assert "IBuilderConfig.max_workspace_size" in missing_names(names_of("8.2"), bindings("10.3"))
    assert "IBuilderConfig.int8_calibrator" in missing_names(names_of("10.13"), bindings("11.4"))

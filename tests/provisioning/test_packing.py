from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any, Callable, Dict

import numpy as np
import onnx
import pytest

from edge_runtime.builder.recipe import load_recipe
from edge_runtime.errors import ConfigError, DataError, GateError, PlanError
from edge_runtime.plan.recipe_file import RECIPE
from tests.fakes.outlier_net import outlier_net
from tests.fakes.packs import Device, Host, contents_of

FUNCTION = """
import numpy as np
def rows(count, width=1):
    rng = np.random.default_rng(count)
    for index in range(count):
        x = rng.normal(size=(width if index else 1, 4)).astype(np.float32)
        yield {"x": x}, np.zeros(len(x), int)
def score(outputs, samples):
    return 1.0
"""


@pytest.fixture
def host(tmp_path: Path, classifier: bytes) -> Host:
    made = Host(tmp_path / "host", classifier)
    (made.folder / "own.py").write_text(FUNCTION)
    return made


@pytest.fixture
def device(tmp_path: Path) -> Device:
    return Device(tmp_path / "device")


def test_a_pack_holds_all_that_a_build_takes_and_no_code(host: Host) -> None:
    made = host.pack()
    data = made.path.read_bytes()
    assert (made.sha256, made.nbytes) == (hashlib.sha256(data).hexdigest(), len(data))
    names = ["pack.json", "recipe.toml", "model.onnx", "int8.onnx", "entropy.cache", "percentile.cache", "mse.cache"]
    assert list(contents_of(data)) == [*names, "max.cache", "held-out.npz"]
    assert contents_of(data)["model.onnx"] == (host.folder / "m.onnx").read_bytes()
    assert [record.verdict for record in made.record.candidates].count("chosen") == 1


def test_the_device_builds_what_the_host_chose_from_the_table_alone(host: Host, device: Device) -> None:
    made = host.pack(key=device.trust.vendor)
    plan = device.build(device.unpack(made.path, require_signed=True).recipe, require_signed=True)
    assert plan.manifest.plan.sha256 == hashlib.sha256(contents_of(made.path.read_bytes())["int8.onnx"]).hexdigest()
    source = plan.manifest.source
    assert (source.pack, source.digest) == (made.sha256, made.record.source.digest)
    assert plan.manifest.data.calibration is None
    here, there = ([(c.name, c.verdict) for c in found.candidates] for found in (made.record, plan.manifest))
    assert here == there


def test_mixed_int8_is_the_same_though_the_device_cant_search_for_it(tmp_path: Path, device: Device) -> None:
    host = Host(tmp_path / "outliers", outlier_net())
    made = host.pack({"gate": {"max_drop": 0.01}, "metric": {"name": "cosine"}})
    assert [c.name for c in made.record.candidates if c.verdict == "chosen"] == ["int8 mixed"]
    contents = contents_of(made.path.read_bytes())
    assert sum(name.endswith(".cache") for name in contents) == 1
    plan = device.build(device.unpack(made.path).recipe)
    assert plan.manifest.plan.sha256 == hashlib.sha256(contents["int8.onnx"]).hexdigest()
    assert [c.kept_float for c in plan.manifest.candidates if c.verdict == "chosen"] == [["outlier"]]


def test_the_same_samples_come_out_of_a_function_on_the_host(host: Host, device: Device) -> None:
    tables = {"held_out": {"data": "own:rows", "arguments": {"count": 40}}, "precision": {"policy": "fp32"}}
    unpacked = device.unpack(host.pack(tables).path)
    with np.load(unpacked.folder / "held-out.npz") as archive:
        assert (archive["x"].shape, archive["label"].shape) == ((40, 1, 4), (40, 1))
    assert device.build(unpacked.recipe).manifest.candidates[0].metric is not None


def test_held_out_samples_that_were_split_off_travel(host: Host, device: Device) -> None:
    made = host.pack({"held_out": {"data": None}, "precision": {"policy": "fp32"}})
    with np.load(device.unpack(made.path).folder / "held-out.npz") as archive:
        assert archive["x"].shape == (25, 1, 4)


def test_without_held_out_samples_the_device_judges_nothing(host: Host, device: Device) -> None:
    made = host.pack(has_held_out=False)
    assert "no held-out samples" in " ".join(host.heard.notes)
    plan = device.build(device.unpack(made.path).recipe)
    assert "accuracy not measured" in plan.manifest.reason


@pytest.mark.parametrize(
    ("tables", "text"),
    [
        ({"metric": {"name": "own:score"}}, "--metric accuracy or cosine"),
        ({"calibration": {"algorithm": "tensorrt"}}, "--algorithm auto"),
        ({"backend": {"plugins": ["libmine.so"]}}, "build it on the device"),
    ],
)
def test_what_cant_travel_is_refused_with_what_to_do(host: Host, tables: Dict[str, Any], text: str) -> None:
    with pytest.raises(ConfigError, match=text):
        host.pack(tables)
    assert not (host.folder / "m.pack").exists()


def test_samples_of_several_shapes_are_refused_with_what_to_do(host: Host) -> None:
    tables = {"held_out": {"data": "own:rows", "arguments": {"count": 9, "width": 3}}, "precision": {"policy": "fp32"}}
    with pytest.raises(DataError, match=r"sample 1: array 'x'.*--no-held-out"):
        host.pack(tables)


def test_a_metric_of_the_users_own_stays_where_nothing_is_judged(host: Host, device: Device) -> None:
    made = host.pack({"metric": {"name": "own:score"}, "precision": {"policy": "fp32"}}, has_held_out=False)
    assert load_recipe(device.unpack(made.path).recipe, environ={}).tables.metric.name is None


def test_what_fails_the_gate_isnt_packed(host: Host) -> None:
    with pytest.raises(GateError, match="nothing was packed"):
        host.pack({"gate": {"max_drop": 0.0}, "metric": {"name": "max-abs"}})
    assert not (host.folder / "m.pack").exists()


def test_only_a_vendors_key_may_sign(host: Host, device: Device) -> None:
    with pytest.raises(ConfigError, match="expected role vendor"):
        host.pack(key=device.trust.device)


def test_releases_count_up_from_the_pack_that_is_replaced(host: Host) -> None:
    fp32 = {"precision": {"policy": "fp32"}}
    assert [host.pack(fp32).statement.release for _ in range(2)] == [1, 2]
    assert host.pack(fp32, release=7).statement.release == 7
    (host.folder / "other").write_bytes(b"not a pack")
    with pytest.raises(ConfigError, match="is there already"):
        host.pack(fp32, name="other")


def test_a_place_that_cant_be_written_is_said_before_any_work(host: Host) -> None:
    with pytest.raises(PlanError, match="--out"):
        host.pack(name="m.onnx/m.pack")
    assert host.heard.stages == []


def test_all_that_decides_a_plan_is_in_the_packed_recipe(host: Host) -> None:
    tables = {
        "model": {"max_batch": 5},
        "input": {"x": {"axes": ["n", "c"], "min": [1, 4], "opt": [2, 4], "max": [5, 4]}},
        "precision": {"policy": "fp32", "keep_float": [], "fallback": "fp16"},
        "serving": {"deadline_ms": 12.5, "batching": "off", "ladder": {"rungs": ["m-small"]}},
        "backend": {"version_compatible": True},
    }
    made = host.pack(tables)
    path = host.folder / RECIPE
    path.write_bytes(contents_of(made.path.read_bytes())[RECIPE])
    packed, own = load_recipe(path, environ={}).tables, host.recipe(tables).tables
    for name in ("input", "precision", "gate", "backend", "serving"):
        assert getattr(packed, name) == getattr(own, name)
    assert (packed.model.name, packed.model.path, packed.model.max_batch) == ("m", "model.onnx", 5)


def test_a_table_of_another_tool_stays_one(host: Host, device: Device, tmp_path: Path) -> None:
    table = tmp_path / "trtexec.cache"
    table.write_bytes(contents_of(host.pack().path.read_bytes())["max.cache"])
    made = host.pack({"calibration": {"data": None, "table": str(table)}})
    plan = device.build(device.unpack(made.path).recipe)
    assert [c.calibrator for c in plan.manifest.candidates if c.verdict == "chosen"] == ["imported"]


def test_external_data_is_merged(host: Host, device: Device) -> None:
    path = host.folder / "m.onnx"
    (host.folder / "w").mkdir()
    onnx.save_model(onnx.load(str(path)), str(path), save_as_external_data=True, location="w/all.bin", size_threshold=0)
    made = host.pack({"precision": {"policy": "fp32"}})
    assert [one.name for one in made.statement.members] == ["pack.json", "recipe.toml", "model.onnx", "held-out.npz"]
    assert device.build(device.unpack(made.path).recipe).manifest.precision == "fp32"


@pytest.mark.slow
def test_the_demos_net_goes_from_host_to_device(
    device: Device, real_path: Callable[[str], Path], tmp_path: Path
) -> None:
    from edge_runtime.provisioning.packing import PackOptions, pack

    real_path("cls")
    recipe = load_recipe(Path(__file__).parents[2] / "engines/text-direction.toml", environ={})
    made = pack(recipe, tmp_path / "td.pack", PackOptions(tmp_path / "calib_cache", device.trust.vendor))
    plan = device.build(device.unpack(made.path, require_signed=True).recipe, require_signed=True)
    int8 = contents_of(made.path.read_bytes())["int8.onnx"]
    assert plan.manifest.plan.sha256 == hashlib.sha256(int8).hexdigest()
    here, there = ([(c.name, c.metric) for c in found.candidates] for found in (made.record, plan.manifest))
    assert here == there

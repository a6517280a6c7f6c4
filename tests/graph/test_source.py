from __future__ import annotations

import contextlib
import hashlib
import os

import numpy as np
import pytest
from onnx import AttributeProto, ModelProto, TensorProto, helper

from edge_runtime.errors import ModelError, UnsupportedModelError
from edge_runtime.graph import source
from edge_runtime.graph.model import load_model, model_from_bytes, source_digest
from edge_runtime.graph.source import refer

WEIGHT = np.arange(6, dtype=np.float32)


@pytest.fixture
def external(tmp_path, proto):
    """A function that writes model/net.onnx, whose weight lies in another file, and returns its path."""

    def write(location="w.bin", dims=(6,), data_type=TensorProto.FLOAT, **entries):
        model = proto([helper.make_node("Add", ["x", "w"], ["y"])], {"x": [6]})
        tensor = model.graph.initializer.add(name="w", dims=dims, data_type=data_type)
        tensor.data_location = TensorProto.EXTERNAL
        for key, value in {"location": location, **entries}.items():
            tensor.external_data.add(key=key, value=str(value))
        folder = tmp_path / "model"
        folder.mkdir(exist_ok=True)
        (tmp_path / "outside.bin").write_bytes(WEIGHT.tobytes())
        (folder / "w.bin").write_bytes(b"head" + WEIGHT.tobytes())
        (folder / "net.onnx").write_bytes(model.SerializeToString())
        return folder / "net.onnx"

    return write


def assert_refused(path, *words):
    with pytest.raises(ModelError) as caught:
        load_model(path)
    for word in words:
        assert word in str(caught.value)


def test_external_weights_are_read_and_hashed(external, run):
    path = external(offset=4, length=24)
    model = load_model(path)
    assert [name for name, _ in model.files] == ["net.onnx", "w.bin"]
    np.testing.assert_array_equal(run(model, {"x": np.zeros(6, np.float32)})["y"], WEIGHT)
    assert source_digest(path) == (model.digest, model.files)


def test_digest_changes_with_the_external_bytes(external):
    path = external(offset=4)
    before = load_model(path).digest
    (path.parent / "w.bin").write_bytes(b"tail" + WEIGHT[::-1].tobytes())
    assert load_model(path).digest == source_digest(path)[0] != before


def test_a_subfolder_is_inside_the_folder(external):
    path = external("sub/./w.bin")
    (path.parent / "sub").mkdir()
    (path.parent / "sub" / "w.bin").write_bytes(WEIGHT.tobytes())
    assert load_model(path).files[1][0] == "sub/w.bin"


@pytest.mark.parametrize("location", ["", "/etc/passwd", "../outside.bin", "a/../../outside.bin", "..", ".", "a\\b"])
def test_locations_outside_the_folder_are_refused(external, location):
    path = external(location)
    assert_refused(path, "'w'", "inside the model's folder")
    with pytest.raises(ModelError, match="inside the model's folder"):
        source_digest(path)


def test_links_are_refused_as_files_and_as_folders(external, tmp_path):
    path = external("link.bin")
    (path.parent / "link.bin").symlink_to(tmp_path / "outside.bin")
    assert_refused(path, "link.bin", "symbolic link")
    path = external("folder/outside.bin")
    (path.parent / "folder").symlink_to(tmp_path)
    assert_refused(path, "folder/outside.bin", "symbolic link")


def test_a_link_to_the_models_folder_is_followed(external, tmp_path):
    path = external(offset=4)
    (tmp_path / "alias").symlink_to(path.parent)
    assert load_model(tmp_path / "alias" / "net.onnx").digest == load_model(path).digest


def test_pipes_folders_and_missing_files_are_refused(external):
    path = external("pipe")
    os.mkfifo(path.parent / "pipe")
    assert_refused(path, "'pipe'", "regular file")
    (external("folder").parent / "folder").mkdir()
    assert_refused(path, "'folder'")
    assert_refused(external("none.bin"), "'none.bin'", "missing")


@pytest.mark.parametrize(
    ("entries", "word"),
    [
        ({"offset": 8, "length": 24}, "truncated"),
        ({"offset": 10**17}, "truncated"),
        ({"length": 8}, "expected 24 bytes"),
        ({"offset": -4}, "'-4'"),
        ({"length": "many"}, "'many'"),
        ({"offset": "9" * 5000}, "number of bytes"),
        ({"dims": (-6,)}, "expected -24"),
        ({"data_type": TensorProto.STRING}, "no length"),
    ],
)
def test_slices_that_do_not_fit_are_refused(external, entries, word):
    assert_refused(external(**entries), "'w'", word)


def test_a_tensor_of_two_gib_is_unsupported(external):
    with pytest.raises(UnsupportedModelError, match="2 GiB in one tensor"):
        load_model(external(dims=(2**29,)))


def test_weights_that_no_memory_holds_are_unsupported(external, monkeypatch):
    path = external(offset=4)
    for nbytes in (23, 27):  # the slice takes 24, the file 28
        monkeypatch.setattr(source, "_memory_nbytes", lambda nbytes=nbytes: nbytes)
        with pytest.raises(UnsupportedModelError, match=f"{nbytes} bytes of memory"):
            load_model(path)
    monkeypatch.setattr(source, "_memory_nbytes", lambda: 28)
    assert load_model(path).files


def test_a_file_is_read_once_however_its_slices_lie(external, proto, run):
    path = external()
    data = np.arange(12, dtype=np.float32)
    slices = {"late": (40, 2), "tied": (8, 3), "again": (8, 3), "across": (12, 4), "empty": (20, 0), "whole": (0, 10)}
    model = proto([helper.make_node("Concat", ["x", *slices], ["y"], axis=0)], {"x": [1]})
    for name, (offset, count) in slices.items():
        tensor = model.graph.initializer.add(name=name, dims=[count], data_type=TensorProto.FLOAT)
        refer(tensor, "w.bin", offset, 4 * count)
    path.write_bytes(model.SerializeToString())
    (path.parent / "w.bin").write_bytes(data.tobytes())
    loaded = load_model(path)
    expected = [[0.0], *(data[offset // 4 :][:count] for offset, count in slices.values())]
    np.testing.assert_array_equal(run(loaded, {"x": np.zeros(1, np.float32)})["y"], np.concatenate(expected))
    assert dict(loaded.files)["w.bin"] == hashlib.sha256(data.tobytes()).hexdigest()
    assert source_digest(path) == (loaded.digest, loaded.files)


def test_a_file_that_shrinks_while_it_is_read_is_refused(external, monkeypatch):
    path = external(offset=4)
    opened = source._opened_inside

    @contextlib.contextmanager
    def shrinking(*args):
        with opened(*args) as file:
            monkeypatch.setattr(source.os, "fstat", lambda handle: os.stat_result([0] * 6 + [28, 0, 0, 0]))
            os.truncate(path.parent / "w.bin", 20)
            yield file

    monkeypatch.setattr(source, "_opened_inside", shrinking)
    assert_refused(path, "'w'", "truncated")


def test_external_data_inside_a_subgraph_is_found(external, proto, run):
    path = external(offset=4)
    constant = helper.make_node("Constant", [], ["r"])
    tensor = constant.attribute.add(name="value", type=AttributeProto.TENSOR).t
    tensor.CopyFrom(next(iter(_initializers(path))))
    branch = helper.make_graph([constant], "branch", [], [helper.make_tensor_value_info("r", 1, [6])])
    node = helper.make_node("If", ["c"], ["y"], then_branch=branch, else_branch=branch)
    condition = helper.make_tensor_value_info("c", TensorProto.BOOL, [])
    path.write_bytes(proto([node], [condition]).SerializeToString())
    np.testing.assert_array_equal(run(load_model(path), {"c": np.array(True)})["y"], WEIGHT)


def _initializers(path):
    return ModelProto.FromString(path.read_bytes()).graph.initializer


def test_bytes_may_not_refer_to_files(external):
    with pytest.raises(ModelError, match="another file"):
        model_from_bytes(external().read_bytes(), "net.onnx")

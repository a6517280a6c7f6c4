from __future__ import annotations

from pathlib import Path

from edge_runtime.provisioning.sources import sources_of

RECIPE = '[model]\npath = "m.onnx"\n'


def write(path: Path, text: str = RECIPE) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def test_recipes_and_the_newest_release_of_each_pack_are_found(tmp_path: Path) -> None:
    write(tmp_path / "b.toml")
    write(tmp_path / "a.toml", RECIPE + 'name = "z"\n')
    write(tmp_path / ".hidden.toml")
    write(tmp_path / "b/1/manifest.json", "{}")
    for release in ("9", "10", "010", ".11"):
        write(tmp_path / f".packs/p/{release}/recipe.toml")
        write(tmp_path / f".packs/p/{release}/pack.dsse.json", "{}")
    write(tmp_path / ".packs/p/10/pack.sha256", "ab" * 32 + "\n")
    (tmp_path / ".packs/p/12").mkdir()  # without a recipe
    write(tmp_path / ".packs/-odd/1/recipe.toml")
    found = sources_of(tmp_path)
    assert [(source.model, str(source.path.relative_to(tmp_path))) for source in found] == [
        ("b", "b.toml"),
        ("p", ".packs/p/10/recipe.toml"),
        ("z", "a.toml"),
    ]
    assert [source.pack_sha256 for source in found] == ["", "ab" * 32, ""]
    assert [source.recipe().name for source in found] == ["b", "p", "z"]
    assert not any(source.problem for source in found)


def test_a_store_that_is_not_there_has_none(tmp_path: Path) -> None:
    assert sources_of(tmp_path / "absent") == []


def test_a_recipe_that_cannot_be_read_is_told_and_keeps_no_other_away(tmp_path: Path) -> None:
    write(tmp_path / "a.toml", "[model\n")
    write(tmp_path / "b.toml", "[model]\npaht = 'm'\n")
    write(tmp_path / "c.toml")
    problems = {source.model: source.problem for source in sources_of(tmp_path)}
    assert "not valid TOML" in problems["a"]
    assert "did you mean 'path'" in problems["b"]
    assert problems["c"] == ""


def test_of_two_that_make_the_same_model_one_does(tmp_path: Path) -> None:
    write(tmp_path / "a.toml", RECIPE + 'name = "m"\n')
    write(tmp_path / "m.toml")
    write(tmp_path / ".packs/m/1/recipe.toml")
    write(tmp_path / ".packs/m/1/pack.dsse.json", "{}")
    problems = {source.path.parent.name + "/" + source.path.name: source.problem for source in sources_of(tmp_path)}
    assert [name for name, problem in problems.items() if not problem] == [f"{tmp_path.name}/a.toml"]
    assert f"model 'm' is made by {tmp_path / 'a.toml'} already" in problems["1/recipe.toml"]


def test_a_pack_without_its_envelope_is_no_recipe(tmp_path: Path) -> None:
    write(tmp_path / ".packs/m/1/recipe.toml")
    (source,) = sources_of(tmp_path)
    assert "pack.dsse.json is gone" in source.problem

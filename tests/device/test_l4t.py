from __future__ import annotations

from pathlib import Path

import pytest
from fakes.boards import package, release, tree

from edge_runtime.device.l4t import JetPack, jetpack_from_l4t, l4t_release


@pytest.mark.parametrize(
    ("major", "revision", "expected"),
    [(32, "7.1", "32.7.1"), (35, "1.0", "35.1.0"), (36, "4.7", "36.4.7"), (39, "2.0", "39.2.0"), (36, "3", "36.3.0")],
)
def test_the_release_file_gives_the_release(tmp_path: Path, major: int, revision: str, expected: str) -> None:
    assert l4t_release(tree(tmp_path, release(major, revision))) == expected


def test_the_package_is_believed_before_the_release_file(tmp_path: Path) -> None:
    assert l4t_release(tree(tmp_path, release(36, "4.3"), package("36.4.7-20250918154033"))) == "36.4.7"


@pytest.mark.parametrize(
    "files",
    [
        package("36.4.7-1", status="deinstall ok config-files"),
        package("36.4.7-1", name="nvidia-l4t-core-dev"),
        package("garbage"),
        {"var/lib/dpkg/status": b"Package: nvidia-l4t-core\n\nStatus: install ok installed\nVersion: 36.4.7-1\n"},
    ],
)
def test_a_package_that_is_not_installed_says_nothing(tmp_path: Path, files: dict) -> None:
    assert l4t_release(tree(tmp_path, files)) == ""
    assert l4t_release(tree(tmp_path, release(36, "4.3"))) == "36.4.3"


@pytest.mark.parametrize(
    "text", ["", "# R36", "# R (release), REVISION: 4.7", "# R36 (release), REVISION: x", "\0\xff"]
)
def test_a_damaged_release_file_gives_no_release(tmp_path: Path, text: str) -> None:
    assert l4t_release(tree(tmp_path, {"etc/nv_tegra_release": text})) == ""


@pytest.mark.parametrize(
    ("l4t", "name", "cuda", "tensorrt", "python"),
    [
        ("32.6.1", "4.6", "10.2", "8.0.1", "3.6"),
        ("32.7.1", "4.6.1", "10.2", "8.2.1", "3.6"),
        ("32.7.6", "4.6.6", "10.2", "8.2.1", "3.6"),
        ("35.1.0", "5.0.2", "11.4", "8.4.1", "3.8"),
        ("35.1", "5.0.2", "11.4", "8.4.1", "3.8"),
        ("35.4.1", "5.1.2", "11.4", "8.5.2", "3.8"),
        ("35.6.2", "5.1.5", "11.4", "8.5.2", "3.8"),
        ("36.3.0", "6.0", "12.2", "8.6.2", "3.10"),
        ("36.4.0", "6.1", "12.6", "10.3.0", "3.10"),
        ("36.4.3", "6.2", "12.6", "10.3.0.30", "3.10"),
        ("36.4.7", "6.2.1", "12.6", "10.3.0.30", "3.10"),
        ("36.5.0", "6.2.2", "12.6", "10.3.0.30", "3.10"),
        ("38.2.1", "7.0", "13.0", "10.13", "3.12"),
        ("38.4.0", "7.1", "13.0", "10.13.3", "3.12"),
        ("39.2.0", "7.2", "13.2", "10.16", "3.12"),
    ],
)
def test_a_release_names_its_jetpack_and_what_that_ships(
    l4t: str, name: str, cuda: str, tensorrt: str, python: str
) -> None:
    assert jetpack_from_l4t(l4t) == JetPack(name, cuda, tensorrt, python)


@pytest.mark.parametrize(("l4t", "name"), [("36.4.9", "6.x"), ("32.5.0", "4.x"), ("35.6.3", "5.x"), ("39.9.0", "7.x")])
def test_an_unknown_release_of_a_known_series_gives_the_major_number_alone(l4t: str, name: str) -> None:
    jetpack = jetpack_from_l4t(l4t)
    assert jetpack == JetPack(name)
    assert (jetpack.is_known, str(jetpack.major)) == (False, name[0])


@pytest.mark.parametrize("l4t", ["", "28.2.1", "99.1.0", "36", "36.4.7.1.2", "36.x", "-36.4.7"])
def test_what_belongs_to_no_known_series_has_no_jetpack(l4t: str) -> None:
    assert jetpack_from_l4t(l4t) is None

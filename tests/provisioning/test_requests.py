from __future__ import annotations

from pathlib import Path

import pytest

from edge_runtime.errors import ConfigError
from edge_runtime.provisioning.requests import read_requests


def test_only_files_with_names_of_models_are_requests(tmp_path: Path) -> None:
    folder = tmp_path / "requests"
    (folder / "odd").mkdir(parents=True)
    (folder / "full").mkdir()
    (folder / "full/file").touch()
    for name in ("m", "n.1", "-odd", "a b", ".hidden"):
        (folder / name).touch()
    (tmp_path / "secret").touch()
    (folder / "link").symlink_to(tmp_path / "secret")
    requests = read_requests(folder)
    assert requests.models == ("m", "n.1")
    assert set(requests.strays) == {"odd", "full", "-odd", "a b", "link"}
    assert requests.clear((*requests.models, *requests.strays, "gone")) == ["full"]
    assert sorted(path.name for path in folder.iterdir()) == [".hidden", "full"]
    assert (tmp_path / "secret").exists()


def test_a_folder_that_is_not_there_has_none_and_a_file_is_told(tmp_path: Path) -> None:
    assert read_requests(tmp_path / "absent").models == ()
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match="expected a folder"):
        read_requests(tmp_path / "file")

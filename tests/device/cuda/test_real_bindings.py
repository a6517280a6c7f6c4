"""The real cuda-python 11 and pycuda on the driver of tests/fakes/libcuda.c, where test_gpu.py's tests must pass.

cuda-python 12 and 13 can't be had so: they look for more of the driver than its documented calls.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

TESTS = Path(__file__).resolve().parents[2]
TOOLKIT = next((path for path in sorted(Path("/usr/local").glob("cuda*")) if (path / "include/cuda.h").exists()), None)
SETTINGS = """
CUDA_ROOT = {toolkit!r}
CUDADRV_LIB_DIR = [{driver!r}]
CUDART_LIB_DIR = [{toolkit!r} + "/lib64"]
CUDA_ENABLE_CURAND = False
"""


def run(command: list[object], **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(part) for part in command],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )


def install(place: Path, *options: str, **environment: str) -> None:
    """Installs packages into a folder that later runs find again."""
    if place.exists():
        return
    part = place.with_name(f"{place.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    done = run([sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--target", part, *options], **environment)
    if done.returncode:
        pytest.skip(f"pip install {' '.join(options)} failed here: {done.stderr.strip()[-300:]}")
    part.rename(place)


def make_driver(folder: Path, cuda_version: int, missing: set[str] = frozenset()) -> Path:
    """libcuda.so of the fake driver; what it doesn't have of `missing` says that it isn't supported."""
    source = TESTS / "fakes/libcuda.c"
    stubs = folder / "stubs.c"
    stubs.write_text(
        "".join(f"int {name}(void) {{ return 801; }}\n" for name in missing if name not in source.read_text())
    )
    folder.joinpath("libcuda.so").unlink(missing_ok=True)
    library = folder / "libcuda.so.1"
    options = ["-shared", "-fPIC", "-O1", "-Wall", "-Werror", f"-DFAKE_VERSION={cuda_version}"]
    done = run(["gcc", *options, "-Wl,-soname,libcuda.so.1", "-o", library, source, stubs, "-lpthread"])
    assert done.returncode == 0, done.stderr
    folder.joinpath("libcuda.so").symlink_to(library.name)
    return folder


def names_needed(library: Path) -> set[str]:
    """The functions of CUDA's driver that a compiled module asks for."""
    symbols = run(["nm", "-D", "--undefined-only", library]).stdout
    return set(re.findall(r"U (cu[A-Z]\w+)", symbols))


def run_gpu_tests(adapter: str, driver: Path, site: Path) -> None:
    command = [sys.executable, "-m", "pytest", "-q", "-m", "gpu", "-k", adapter, "-p", "no:cacheprovider"]
    done = run(
        [*command, TESTS / "device/cuda/test_gpu.py"],
        LD_LIBRARY_PATH=str(driver),
        PYTHONPATH=os.pathsep.join([str(site), os.environ.get("PYTHONPATH", "")]),
    )
    assert done.returncode == 0, done.stdout + done.stderr
    passed, skipped = (re.search(rf"(\d+) {what}", done.stdout) for what in ("passed", "skipped"))
    assert passed
    assert int(passed[1]) >= 12, done.stdout
    assert int(skipped[1] if skipped else 0) <= 2, done.stdout


def test_cuda_python_11_on_a_fake_driver(tmp_path: Path, pytestconfig: pytest.Config) -> None:
    site = pytestconfig.cache.mkdir("bindings") / f"cuda-python-11-{sys.version_info[1]}"
    package = "cuda-python==11.8.2" if sys.version_info < (3, 9) else "cuda-bindings==11.8.*"
    install(site, package)
    run_gpu_tests("cuda-python", make_driver(tmp_path, 11080), site)


def test_pycuda_on_a_fake_driver(tmp_path: Path, pytestconfig: pytest.Config) -> None:
    if TOOLKIT is None:
        pytest.skip("no CUDA toolkit below /usr/local, which pycuda is built with")
    site = pytestconfig.cache.mkdir("bindings") / f"pycuda-{sys.version_info[1]}"
    driver = make_driver(tmp_path, 13000)
    tmp_path.joinpath(".aksetup-defaults.py").write_text(SETTINGS.format(toolkit=str(TOOLKIT), driver=str(driver)))
    install(site, "--no-binary=pycuda", "pycuda", HOME=str(tmp_path))
    module = next(site.glob("pycuda/_driver*.so"))
    run_gpu_tests("pycuda", make_driver(tmp_path, 13000, names_needed(module)), site)

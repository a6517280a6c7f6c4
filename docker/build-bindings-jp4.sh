#!/usr/bin/env bash
# Builds TensorRT 8.2's Python bindings for Python 3.8 on JetPack 4.6.1 to 4.6.6, whose own are for Python 3.6.
#
#   docker/build-bindings-jp4.sh [FOLDER]        the wheel goes into FOLDER, by default wheelhouse/bindings-jp4
#
# not built here: it needs an aarch64 board with JetPack 4 and a way to GitHub and PyPI. It takes about 3 GB of disk,
# and JOBS (2) compilers at a time, which is what a Nano's memory carries.
#
# It follows python/README.md and python/build.sh of github.com/NVIDIA/TensorRT (Apache-2.0) at the tag of the board's
# libraries. Where that asks for copies of Python's headers, Ubuntu's python3.8-dev has them in place, as in
# docker/tensorrt/detector/build_python_tensorrt.sh of github.com/blakeblackshear/frigate; pybind11 before 2.10 is what
# works with these sources (github.com/NVIDIA/TensorRT, issue 2288).
set -euo pipefail

readonly PYTHON=python3.8
readonly PYBIND11=2.9.2
readonly LIBRARIES="nvinfer nvinfer_plugin nvonnxparser nvparsers"
readonly SOURCES=https://github.com/NVIDIA/TensorRT.git
jobs=${JOBS:-2}

fail() {
  echo "build-bindings-jp4: $*" >&2
  exit 1
}

check_board() {
  [ "$(uname -m)" = aarch64 ] || fail "this is $(uname -m), expected aarch64; run it on the board"
  local tool
  for tool in "$PYTHON" git cmake make g++; do
    command -v "$tool" > /dev/null || fail "$tool isn't there; sudo apt-get install python3.8 git cmake make g++"
  done
  "$PYTHON" -c 'import ensurepip, venv' 2> /dev/null || fail "sudo apt-get install python3.8-venv"
  [ -e /usr/include/python3.8/Python.h ] || fail "sudo apt-get install python3.8-dev"
}

# As 8.2.1: what the library itself says.
tensorrt_version() {
  "$PYTHON" - << 'END' || fail "libnvinfer.so.8 doesn't load; JetPack 4.6.1 or later, in a container --runtime nvidia"
import ctypes

number = ctypes.CDLL("libnvinfer.so.8").getInferLibVersion()
print(f"{number // 1000}.{number % 1000 // 100}.{number % 100}")
END
}

cuda_folder() {
  local folder
  for folder in /usr/local/cuda /usr/local/cuda-10.2; do
    if [ -e "$folder/include/cuda_runtime_api.h" ]; then
      echo "$folder"
      return
    fi
  done
  fail "CUDA's headers aren't in /usr/local/cuda; sudo apt-get install cuda-toolkit-10-2"
}

# Everything that NVIDIA's build.sh looks for, where it looks for it.
prepare() {
  local work=$1 version=$2 name file
  git clone --quiet --depth 1 --branch "$version" "$SOURCES" "$work/TensorRT"
  git -C "$work/TensorRT" submodule --quiet update --init --depth 1 parsers/onnx
  "$PYTHON" -m venv "$work/venv"
  "$work/venv/bin/pip" install --quiet --upgrade pip==24.3.1
  "$work/venv/bin/pip" install --quiet setuptools==69.5.1 wheel==0.43.0 "pybind11==$PYBIND11"
  mkdir -p "$work/external" "$work/TensorRT/build"
  ln -s "$("$work/venv/bin/python" -c 'import pybind11; print(pybind11.__path__[0])')" "$work/external/pybind11"
  ln -s /usr/include/python3.8 "$work/external/python3.8"
  for name in $LIBRARIES; do
    file=/usr/lib/aarch64-linux-gnu/lib$name.so.8
    [ -e "$file" ] || fail "$file isn't there; sudo apt-get install tensorrt"
    ln -s "$file" "$work/TensorRT/build/lib$name.so"
  done
  sed -i "s/make -j[0-9]*/make -j$jobs/" "$work/TensorRT/python/build.sh"
}

build() {
  local work=$1 cuda
  cuda=$(cuda_folder)
  (
    cd "$work/TensorRT/python"
    export PATH="$work/venv/bin:$PATH" CPATH="$cuda/include" CUDA_ROOT="$cuda"
    export TRT_OSSPATH="$work/TensorRT" EXT_PATH="$work/external"
    export PYTHON_MAJOR_VERSION=3 PYTHON_MINOR_VERSION=8 TARGET_ARCHITECTURE=aarch64
    bash -e ./build.sh
  )
}

# The wheel must import here and be of the libraries' version.
check_wheel() {
  local work=$1 version=$2 wheel=$3 found
  "$work/venv/bin/pip" install --quiet --no-deps "$wheel"
  found=$("$work/venv/bin/python" -c 'import tensorrt; print(tensorrt.__version__)')
  case $found in
    "$version" | "$version".*) ;;
    *) fail "the bindings say $found, the libraries $version" ;;
  esac
}

main() {
  local folder=${1:-wheelhouse/bindings-jp4} version work wheels
  check_board
  version=$(tensorrt_version)
  case $version in
    8.2.*) ;;
    *) fail "TensorRT is $version, expected 8.2: this is for JetPack 4.6.1 to 4.6.6" ;;
  esac
  cuda_folder > /dev/null
  work=$(mktemp --directory)
  # shellcheck disable=SC2064 # the folder of now
  trap "rm -rf '$work'" EXIT
  echo "TensorRT $version: building its bindings for $PYTHON in $work"
  prepare "$work" "$version"
  build "$work"
  wheels=("$work"/TensorRT/python/build/dist/tensorrt-*.whl)
  [ -e "${wheels[0]}" ] || fail "build.sh left no wheel in $work/TensorRT/python/build/dist"
  check_wheel "$work" "$version" "${wheels[0]}"
  mkdir -p "$folder"
  cp "${wheels[0]}" "$folder/"
  echo "built and imported: $folder/$(basename "${wheels[0]}")"
}

main "$@"

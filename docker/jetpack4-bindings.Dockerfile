# What builds TensorRT 8.2's Python bindings for Python 3.8 on JetPack 4.6.1 to 4.6.6 (Nano, TX2, Xavier).
#
# not built here: it needs an aarch64 board with JetPack 4. On the board, from the root of this repository:
#   sudo docker build -f docker/jetpack4-bindings.Dockerfile -t edge-runtime:jp4-bindings .
#   mkdir -p wheelhouse/bindings-jp4
#   sudo docker run --rm --runtime nvidia --user "$(id -u):$(id -g)" -v "$PWD/wheelhouse/bindings-jp4:/out" edge-runtime:jp4-bindings
# The wheel is then in wheelhouse/bindings-jp4. docker/build-bindings-jp4.sh does the same without a container.
#
# CUDA and TensorRT are the host's: the NVIDIA runtime mounts them when a container starts, not while an image is
# built, so the bindings are built by running this image. Source of the tag: scripts/docker_base.sh of
# github.com/dusty-nv/jetson-containers; r32.7.1 is the last l4t-base of JetPack 4, and serves 4.6.1 to 4.6.6.
FROM nvcr.io/nvidia/l4t-base:r32.7.1

ARG DEBIAN_FRONTEND=noninteractive

# Ubuntu's archive keeps only the newest of a package, so its versions can't be pinned.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends \
         ca-certificates cmake g++ git make python3.8 python3.8-dev python3.8-venv \
    && rm -rf /var/lib/apt/lists/*
COPY docker/build-bindings-jp4.sh /usr/local/bin/build-bindings

# Root isn't needed, nor the GPU; 1000 is the first user of a board.
USER 1000:1000
WORKDIR /tmp
# It ends by itself.
HEALTHCHECK NONE
ENTRYPOINT ["build-bindings", "/out"]

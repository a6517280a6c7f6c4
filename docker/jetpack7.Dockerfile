# edge-runtime on JetPack 7 (L4T 38.x on Thor, 39.x on Thor and Orin).
#
# not built here: it needs an aarch64 board. On the board, from the root of this repository:
#   sudo docker build -f docker/jetpack7.Dockerfile -t edge-runtime:jp7 .
# and on JetPack 7.2, whose TensorRT and CUDA are newer:
#   sudo docker build -f docker/jetpack7.Dockerfile -t edge-runtime:jp7 --build-arg L4T=r39.2 --build-arg CUDA=13-2 .
# docs/jetson.md has the command that runs it.
#
# JetPack 7 has no l4t-jetpack image; the -igpu images of NGC end with JetPack 6, and their TensorRT doesn't import on
# L4T 39, which has no libnvdla_compiler.so (github.com/Jonah-May-OSS/wyoming-whisper-trt, issue 1038). So this is
# plain Ubuntu with the packages of NVIDIA's repository for the board, which are those that the host has. Source of
# the names: docker/dockerfiles/Dockerfile.onnx.jetson.7.1.0 and .7.2.0 of github.com/roboflow/inference.
FROM ubuntu:24.04

ARG L4T=r38.4
ARG CUDA=13-0
ARG KEY=/usr/share/keyrings/nvidia-jetson.asc
ARG DEBIAN_FRONTEND=noninteractive

# Ubuntu's archive keeps only the newest of a package, so its versions can't be pinned; L4T pins NVIDIA's.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends ca-certificates curl \
    && curl -fsSL https://repo.download.nvidia.com/jetson/jetson-ota-public.asc -o "$KEY" \
    && for part in common som; do \
         echo "deb [signed-by=$KEY] https://repo.download.nvidia.com/jetson/$part $L4T main"; \
       done > /etc/apt/sources.list.d/nvidia-jetson.list \
    && apt-get update \
    && apt-get install --yes --no-install-recommends \
         "cuda-cudart-$CUDA" python3-libnvinfer python3-venv tensorrt-libs \
    && rm -rf /var/lib/apt/lists/*

# A virtual environment that sees the bindings.
RUN python3 -m venv --system-site-packages /opt/edge-runtime \
    && /opt/edge-runtime/bin/pip install --no-cache-dir pip==24.3.1
COPY pyproject.toml README.md LICENSE NOTICE /usr/local/src/edge-runtime/
COPY edge_runtime /usr/local/src/edge-runtime/edge_runtime
RUN /opt/edge-runtime/bin/pip install --no-cache-dir '/usr/local/src/edge-runtime[jp7]'

# The GPU's nodes belong to these groups; the number of `render` is the host's matter (docker run --group-add).
RUN groupadd --force --system render \
    && useradd --uid 10001 --create-home --groups video,render edge \
    && install --directory --owner=edge --group=edge /var/lib/edge-runtime

ENV PATH=/opt/edge-runtime/bin:$PATH \
    EDGE_RUNTIME_ENGINES=/var/lib/edge-runtime/engines
USER 10001
WORKDIR /var/lib/edge-runtime
VOLUME /var/lib/edge-runtime

HEALTHCHECK --interval=10s --timeout=5s --start-period=120s --retries=3 \
    CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8000/v2/health/ready', timeout=3)"]
ENTRYPOINT ["edge-runtime"]
CMD ["serve"]

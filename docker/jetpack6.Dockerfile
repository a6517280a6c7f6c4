# edge-runtime on JetPack 6.1 and later (L4T 36.4 and later, Orin).
#
# not built here: it needs an aarch64 board. On the board, from the root of this repository:
#   sudo docker build -f docker/jetpack6.Dockerfile -t edge-runtime:jp6 .
# docs/jetson.md has the command that runs it.
#
# The image brings CUDA 12.6, TensorRT 10.3 and its bindings for Python 3.10; only the driver comes from the host.
# It doesn't run on JetPack 6.0 (L4T 36.3), whose driver is older. Source of the tag: jetpack_container_image in
# .github/scripts/filter-matrix.py of github.com/pytorch/TensorRT.
FROM nvcr.io/nvidia/l4t-jetpack:r36.4.0

# Ubuntu's archive keeps only the newest of a package, so its versions can't be pinned.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends python3-libnvinfer python3-venv \
    && rm -rf /var/lib/apt/lists/*

# A virtual environment that sees the bindings.
RUN python3 -m venv --system-site-packages /opt/edge-runtime \
    && /opt/edge-runtime/bin/pip install --no-cache-dir pip==24.3.1
COPY pyproject.toml README.md LICENSE NOTICE /usr/local/src/edge-runtime/
COPY edge_runtime /usr/local/src/edge-runtime/edge_runtime
RUN /opt/edge-runtime/bin/pip install --no-cache-dir '/usr/local/src/edge-runtime[jp6]'

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

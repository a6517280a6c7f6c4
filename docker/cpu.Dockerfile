# edge-runtime on ONNX Runtime CPU: for a machine without an NVIDIA GPU, x86_64 or aarch64, as in development or CI.
#
# not built here: no registry could be reached. From the root of this repository:
#   docker build -f docker/cpu.Dockerfile -t edge-runtime:cpu .
# docs/containers.md has the commands that run it; docker/compose.yaml builds plans first.
#
# Source of the tag: library/python of github.com/docker-library/official-images.
FROM python:3.12.8-slim-bookworm

RUN python -m venv /opt/edge-runtime \
    && /opt/edge-runtime/bin/pip install --no-cache-dir pip==24.3.1
COPY pyproject.toml README.md LICENSE NOTICE /usr/local/src/edge-runtime/
COPY edge_runtime /usr/local/src/edge-runtime/edge_runtime
RUN /opt/edge-runtime/bin/pip install --no-cache-dir /usr/local/src/edge-runtime

RUN useradd --uid 10001 --create-home edge \
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

from __future__ import annotations

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import numpy as np
import pytest

from edge_runtime.client.client import Client
from edge_runtime.errors import ConfigError, RemoteError, ServerUnavailableError
from edge_runtime.profiler.bench import bench_server
from edge_runtime.profiler.report import BenchReport
from edge_runtime.profiler.settings import BenchSettings

HEAD_LENGTH = "Inference-Header-Content-Length"


def measured(url: str, model: str, settings: BenchSettings, feeds: Any = None) -> BenchReport:
    with Client(url, protocol=settings.protocol) as client:
        return bench_server(client, model, settings, feeds)


class EchoHandler(BaseHTTPRequestHandler):
    """A made-up server of the protocol with one model, which answers its input `x`."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    shape = (-1, 2)
    about = (("name", "made-up"), ("version", "7"))
    status = 200

    def do_GET(self):
        tensor = {"name": "x", "datatype": "FP32", "shape": list(self.shape)}
        model = {"name": "m", "versions": ["3"], "platform": "none", "inputs": [tensor], "outputs": []}
        self._answer(json.dumps(dict(self.about) if self.path == "/v2" else model).encode())

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        length = int(self.headers[HEAD_LENGTH])
        output = json.loads(body[:length])["inputs"][0]
        head = json.dumps({"outputs": [output]}).encode()
        self._answer(head + body[length:], len(head))

    def _answer(self, body, head_length=None):
        self.send_response(self.status)
        self.send_header("Content-Length", str(len(body)))
        if head_length is not None:
            self.send_header(HEAD_LENGTH, str(head_length))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


@pytest.fixture
def serve():
    """Starts a made-up server with other attributes: `serve(shape=...)`."""
    servers = []

    def start(**attributes):
        server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (EchoHandler,), attributes))
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        servers.append((server, thread))
        return f"http://127.0.0.1:{server.server_address[1]}"

    yield start
    for server, thread in servers:
        server.shutdown()
        thread.join()
        server.server_close()


def test_a_server_is_measured_through_the_client(serve):
    url = serve()
    report = measured(url, "m", BenchSettings(n=70, warm_up=2, batch=3, concurrency=2))
    record = json.loads(json.dumps(report.record()))
    assert record["target"] == {
        "kind": "server",
        "model": "m",
        "version": "3",
        "platform": "none",
        "server": "made-up 7",
        "url": url,
    }
    assert record["input"]["tensors"] == {"x": {"dtype": "FP32", "shape": [3, 2]}}
    assert (record["latency"]["n"], record["latency"]["p99_ms"], record["cold_start"]["load_ms"]) == (70, None, None)
    assert record["cold_start"]["first_inference_ms"] > 0
    assert {"load time", "the server's machine"} <= set(record["not_measured"])
    assert report.samples_per_s == pytest.approx(3 * report.latency.throughput_per_s)


def test_rows_of_a_server_say_that_its_load_time_was_not_measured(serve):
    rows = dict(measured(serve(), "m", BenchSettings(n=1, warm_up=0)).rows())
    assert rows["load"] == rows["the server's machine"] == "not measured"
    assert rows["server"] == "made-up 7"


def test_a_shape_that_the_server_leaves_open_needs_given_inputs(serve):
    url = serve(shape=(-1, -1))
    with pytest.raises(ConfigError, match="give the inputs"):
        measured(url, "m", BenchSettings(n=1))
    report = measured(url, "m", BenchSettings(n=1), {"x": np.zeros((2, 5), ">f4")})
    assert (report.input_source, report.samples_per_call) == ("given", 2)
    assert report.inputs == {"x": {"dtype": "FP32", "shape": [2, 5]}}


def test_odd_metadata_does_not_stop_a_measurement(serve):
    assert measured(serve(about=(("name", 3),)), "m", BenchSettings(n=1)).target["server"] == "3"


def test_refusals_end_the_measurement(serve, tmp_path):
    with pytest.raises(RemoteError, match="500"):
        measured(serve(status=500), "m", BenchSettings())
    with pytest.raises(ServerUnavailableError):
        measured(serve(status=503), "m", BenchSettings())


def test_a_protocol_that_contradicts_the_url_is_refused():
    with pytest.raises(ConfigError, match="expected protocol grpc"):
        measured("http://127.0.0.1:1", "m", BenchSettings(protocol="grpc"))

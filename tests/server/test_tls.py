"""TLS on TCP: what is spoken, who is let in, and certificates that change while the server runs."""

from __future__ import annotations

import contextlib
import json
import socket
import ssl
import subprocess
from pathlib import Path
from typing import Any, Iterator

import grpc
import numpy as np
import pytest
import tritonclient.grpc as triton_grpc
import tritonclient.http as triton_http
import trustme

from edge_runtime.errors import ConfigError
from edge_runtime.wire.messages import SERVICE, message
from edge_runtime.wire.tls import server_context
from edge_runtime.wire.tokens import token_line

TOKEN = "token-for-inference"


class Certificates:
    """An authority's certificates as files: the server's, its key, and those of the authority."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.certificate, self.key, self.authority = folder / "server.pem", folder / "server.key", folder / "ca.pem"
        self.issue()

    def issue(self) -> None:
        """Makes all anew, from a new authority."""
        self.ca = trustme.CA()
        made = self.ca.issue_cert("127.0.0.1", "localhost")
        self.certificate.write_bytes(b"".join(each.bytes() for each in made.cert_chain_pems))
        self.key.touch(mode=0o600)
        self.key.write_bytes(made.private_key_pem.bytes())
        self.ca.cert_pem.write_to_path(self.authority)

    @property
    def settings(self) -> dict[str, str]:
        return {"tls_certificate": str(self.certificate), "tls_key": str(self.key)}

    def client_context(self, has_certificate: bool = False) -> ssl.SSLContext:
        context = ssl.create_default_context()
        self.ca.configure_trust(context)
        if has_certificate:
            self.ca.issue_cert("robot@example.org").configure_cert(context)
        return context

    def channel(self, address: str, has_certificate: bool = False) -> grpc.Channel:
        own = self.ca.issue_cert("robot@example.org")
        chain = b"".join(each.bytes() for each in own.cert_chain_pems)
        mine = {"private_key": own.private_key_pem.bytes(), "certificate_chain": chain} if has_certificate else {}
        return grpc.secure_channel(address, grpc.ssl_channel_credentials(self.authority.read_bytes(), **mine))


@pytest.fixture
def certificates(tmp_path: Path) -> Certificates:
    return Certificates(tmp_path)


@pytest.fixture(params=[pytest.param({}, id="own"), pytest.param({"http_transport": "aiohttp"}, id="aiohttp")])
def secure(request: pytest.FixtureRequest, serving: Any, certificates: Certificates) -> Iterator[Any]:
    with serving("identity", "large", **certificates.settings, **request.param) as server:
        yield server


def asked(address: str, context: ssl.SSLContext, data: bytes, nbytes: int = 1 << 20) -> bytes:
    """What comes for raw bytes over TLS."""
    host, port = address.rsplit(":", 1)
    with socket.create_connection((host, int(port)), 20) as tcp, context.wrap_socket(
        tcp, server_hostname=host
    ) as connection:
        connection.sendall(data)
        return b"".join(iter(lambda: connection.recv(nbytes), b""))


LIVE = b"GET /v2/health/live HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"


def is_live(channel: grpc.Channel) -> bool:
    with channel:
        call = channel.unary_unary(f"/{SERVICE}/ServerLive")
        with contextlib.suppress(grpc.RpcError):
            return bool(call(message("inference.ServerLiveRequest")().SerializeToString(), timeout=10))
    return False


def test_3_3_http_is_tls_1_3(secure: Any, certificates: Certificates) -> None:
    assert asked(secure.bound.http, certificates.client_context(), LIVE).startswith(b"HTTP/1.1 200 OK")
    older = certificates.client_context()
    older.maximum_version = ssl.TLSVersion.TLSv1_2
    with pytest.raises(ssl.SSLError):
        asked(secure.bound.http, older, LIVE)


def test_3_3_what_is_not_tls_gets_no_answer(secure: Any) -> None:
    assert secure.exchange(LIVE) == []


def test_3_3_tritons_http_client_infers_over_tls(secure: Any, certificates: Certificates) -> None:
    x = triton_http.InferInput("x", [1 << 17], "FP32")
    rows = np.random.default_rng(0).random(1 << 17, np.float32)
    x.set_data_from_numpy(rows)
    client = triton_http.InferenceServerClient(
        secure.bound.http, ssl=True, ssl_context_factory=certificates.client_context
    )
    with contextlib.closing(client):
        for _ in range(3):
            assert np.array_equal(client.infer("large", [x]).as_numpy("y"), rows)


def test_3_3_requests_behind_one_that_runs_wait_over_tls_too(
    serving: Any, certificates: Certificates, http_message: Any, good_head: Any
) -> None:
    rows = np.ones(1 << 17, np.float32).tobytes()
    head = good_head(shape=[1 << 17], parameters={"binary_data_size": len(rows)})
    text = json.dumps({**head, "parameters": {"binary_data_output": True}}).encode()
    lengths = {"Inference-Header-Content-Length": str(len(text)), "Accept-Encoding": "gzip"}
    asking = http_message("POST", "/v2/models/large/infer", text + rows, lengths)
    with serving("large", **certificates.settings) as server:
        found = asked(server.bound.http, certificates.client_context(), asking * 3 + LIVE)
    assert found.count(b"HTTP/1.1 200 OK") == 4


def test_3_3_tritons_grpc_client_infers_over_tls(secure: Any, certificates: Certificates) -> None:
    x = triton_grpc.InferInput("x", [1 << 17], "FP32")
    rows = np.random.default_rng(0).random(1 << 17, np.float32)
    x.set_data_from_numpy(rows)
    client = triton_grpc.InferenceServerClient(
        secure.bound.grpc, ssl=True, root_certificates=str(certificates.authority)
    )
    with contextlib.closing(client):
        for _ in range(3):
            assert np.array_equal(client.infer("large", [x]).as_numpy("y"), rows)


def test_3_3_long_runs_are_answered_through_tls_too(serving: Any, certificates: Certificates, unhurried: Any) -> None:
    x = triton_grpc.InferInput("x", [1, 4], "FP32")
    x.set_data_from_numpy(np.ones((1, 4), np.float32))
    with serving(unhurried, **certificates.settings) as server, contextlib.closing(
        triton_grpc.InferenceServerClient(server.bound.grpc, ssl=True, root_certificates=str(certificates.authority))
    ) as client:
        for _ in range(20):
            assert client.infer("unhurried", [x]).as_numpy("y").sum() == 4


def test_3_3_with_mutual_tls_a_client_needs_a_certificate(serving: Any, certificates: Certificates) -> None:
    with serving("identity", **certificates.settings, tls_client_ca=str(certificates.authority)) as server:
        answer = asked(server.bound.http, certificates.client_context(has_certificate=True), LIVE)
        assert answer.startswith(b"HTTP/1.1 200 OK")
        assert is_live(certificates.channel(server.bound.grpc, has_certificate=True))
        assert not is_live(certificates.channel(server.bound.grpc))
        answer = b""
        with contextlib.suppress(ssl.SSLError, ConnectionError):  # or just an end: the server has hung up by then
            answer = asked(server.bound.http, certificates.client_context(), LIVE)
        assert answer == b""


def test_3_3_a_certified_client_may_not_administer(serving: Any, certificates: Certificates) -> None:
    unload = LIVE.replace(b"GET /v2/health/live", b"POST /v2/repository/models/identity/unload")
    with serving("identity", **certificates.settings, tls_client_ca=str(certificates.authority)) as server:
        answer = asked(server.bound.http, certificates.client_context(has_certificate=True), unload)
        assert answer.startswith(b"HTTP/1.1 403 ")


def test_3_3_others_are_served_with_tls_and_tokens(serving: Any, certificates: Certificates, tmp_path: Path) -> None:
    tokens = tmp_path / "tokens"
    tokens.write_text(token_line("robot", False, TOKEN))
    settings = {"http": "0.0.0.0:0", "grpc": "0.0.0.0:0", "tokens": str(tokens), "allow_client_shm": True}
    with serving("identity", **certificates.settings, **settings) as server:
        address = server.bound.http.replace("0.0.0.0", "127.0.0.1")
        context = certificates.client_context()
        assert asked(address, context, LIVE).startswith(b"HTTP/1.1 401 ")
        head = b"Connection: close\r\nAuthorization: Bearer " + TOKEN.encode()
        metadata = LIVE.replace(b"/v2/health/live", b"/v2").replace(b"Connection: close", head)
        assert b"system_shared_memory" in asked(address, context, metadata)


def other_address() -> str | None:
    """An address of this machine that isn't loopback; None where it has none."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))
        except OSError:
            return None
        return str(probe.getsockname()[0])


@pytest.mark.skipif(other_address() is None, reason="this machine has no address but loopback")
def test_2_4_clients_elsewhere_share_no_memory(serving: Any, certificates: Certificates, tmp_path: Path) -> None:
    tokens = tmp_path / "tokens"
    tokens.write_text(token_line("robot", False, TOKEN))
    settings = {"http": f"{other_address()}:0", "tokens": str(tokens), "allow_client_shm": True}
    context = certificates.client_context()
    context.check_hostname = False
    with serving("identity", **certificates.settings, **settings) as server:
        head = b"Connection: close\r\nAuthorization: Bearer " + TOKEN.encode()
        metadata = LIVE.replace(b"/v2/health/live", b"/v2").replace(b"Connection: close", head)
        answer = asked(server.bound.http, context, metadata)
        assert answer.startswith(b"HTTP/1.1 200 OK")
        assert b"system_shared_memory" not in answer


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (lambda made: made.certificate.unlink(), "certificate .* can't be read"),
        (lambda made: made.key.unlink(), "key .* can't be read"),
        (lambda made: made.certificate.write_text("x"), "can't be used"),
        (lambda made: made.key.write_text("x"), "can't be used"),
        (lambda made: made.authority.write_text("x"), "client CA .* no PEM"),
        (lambda made: made.key.chmod(0o604), "everybody may read it"),
        (lambda made: made.key.write_bytes(trustme.CA().issue_cert("x").private_key_pem.bytes()), "mismatch"),
    ],
)
def test_files_of_tls_that_cannot_be_used_are_refused(certificates: Certificates, change: Any, match: str) -> None:
    change(certificates)
    with pytest.raises(ConfigError, match=match):
        server_context(certificates.certificate, certificates.key, certificates.authority, "h2")


def test_an_encrypted_key_is_refused_without_asking_for_its_password(certificates: Certificates) -> None:
    command = ["openssl", "pkey", "-in", str(certificates.key), "-aes256", "-passout", "pass:secret"]
    certificates.key.write_bytes(subprocess.run(command, capture_output=True, check=True).stdout)
    with pytest.raises(ConfigError, match="without a password"):
        server_context(certificates.certificate, certificates.key, None, "h2")


def test_slow_handshakes_end(serving: Any, certificates: Certificates, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edge_runtime.server.acceptor._HANDSHAKE_S", 0.2)
    with serving("identity", **certificates.settings) as server, server.connection(10) as connection:
        connection.sendall(b"\x16\x03")
        assert connection.recv(1) == b""


def test_a_reload_takes_new_certificates_and_tokens(serving: Any, certificates: Certificates, tmp_path: Path) -> None:
    tokens = tmp_path / "tokens"
    tokens.write_text(token_line("robot", False, "before"))
    before = certificates.client_context()
    with serving("identity", **certificates.settings, tokens=str(tokens)) as server:
        certificates.issue()
        tokens.write_text(token_line("robot", False, "after"))
        server.reload()
        with pytest.raises(ssl.SSLError):
            asked(server.bound.http, before, LIVE)
        context = certificates.client_context()
        for token, status in (("before", b"401"), ("after", b"200")):
            request = LIVE.replace(b"Host: x", b"Host: x\r\nAuthorization: Bearer " + token.encode())
            assert asked(server.bound.http, context, request).split()[1] == status


def test_a_reload_that_fails_leaves_all_as_it_was(
    serving: Any, certificates: Certificates, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    tokens = tmp_path / "tokens"
    tokens.write_text(token_line("robot", False, "before"))
    before = certificates.client_context()
    with serving("identity", **certificates.settings, tokens=str(tokens)) as server:
        certificates.issue()
        tokens.write_text("nonsense")
        server.reload()
        request = LIVE.replace(b"Host: x", b"Host: x\r\nAuthorization: Bearer before")
        assert asked(server.bound.http, before, request).startswith(b"HTTP/1.1 200 OK")
    assert any("nothing was changed by the reload" in line and "nonsense" not in line for line in caplog.messages)

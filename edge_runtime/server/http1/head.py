"""The head of an HTTP/1.1 request: parsed by llhttp, and kept for clients that send the same one again."""

from __future__ import annotations

from typing import Any, Dict

import httptools

from edge_runtime.errors import InvalidRequestError
from edge_runtime.server.origin import traceparent_of
from edge_runtime.server.rights import is_administrative_http, is_forgeable
from edge_runtime.server.routes import accepted_coding, head_nbytes_of, path_of

MAX_HEAD_NBYTES = 1 << 16
_MAX_HEADERS = 128
_KEPT_HEADS = 512
_KEPT_NBYTES = 1 << 11


class RequestHead:
    """What a head says.

    Attributes:
        method, target: of the request line.
        content_length: length of the body, None if it comes in chunks.
        keeps_alive: whether another request may follow on the connection.
        expects_continue: whether the client waits to be told to send its body.
        encoding: the body's Content-Encoding, lower case, "" without one.
        accepted: the compression that the answer may have; None for none.
        head_nbytes: the Inference-Header-Content-Length; None without one, or with one that `check_length` refuses.
        authorization: its Authorization header; None without one.
        is_administrative: whether it asks for what only administrators may.
        is_from_page: whether a web page asks, for what pages may not.
        traceparent: its W3C trace; None without a sound one. Heads that have one differ each time, and aren't kept.
        route: what answers it, as it was looked up in the table of models of `epoch`.
        known: what was found out of the binary inferences that had this head, by their JSON heads.
    """

    __slots__ = (
        "accepted",
        "authorization",
        "content_length",
        "encoding",
        "epoch",
        "expects_continue",
        "head_error",
        "head_nbytes",
        "is_administrative",
        "is_from_page",
        "keeps_alive",
        "known",
        "method",
        "route",
        "target",
        "traceparent",
    )

    def __init__(self, received: _Received) -> None:
        headers = received.headers
        self.method = received.method.decode("latin-1")
        self.target = received.url.decode("latin-1")
        self.authorization = headers.get(b"authorization")
        path = path_of(self.target)
        self.is_administrative = is_administrative_http(self.method, path)
        self.is_from_page = is_forgeable(self.method, path, b"origin" in headers)
        self.traceparent = traceparent_of(headers.get(b"traceparent"))
        self.keeps_alive = received.keeps_alive and received.version == "1.1"
        is_chunked = b"transfer-encoding" in headers
        self.content_length = None if is_chunked else int(headers.get(b"content-length", b"0"))
        self.expects_continue = received.version == "1.1" and headers.get(b"expect", b"").lower() == b"100-continue"
        encoding = headers.get(b"content-encoding", b"").decode("latin-1").strip().lower()
        self.encoding = "" if encoding == "identity" else encoding
        self.accepted = accepted_coding(headers.get(b"accept-encoding", b"").decode("latin-1"))
        self.head_nbytes: int | None = None
        self.head_error = ""
        text = headers.get(b"inference-header-content-length")
        try:
            self.head_nbytes = head_nbytes_of(None if text is None else text.decode("latin-1"))
        except InvalidRequestError as error:
            self.head_error = str(error)
        self.route: Any = None
        self.epoch = -1
        self.known: Dict[bytes, Any] = {}

    def check_length(self) -> None:
        """Raises InvalidRequestError for an Inference-Header-Content-Length that is no number of bytes."""
        if self.head_error:
            raise InvalidRequestError(self.head_error)


class RequestHeads:
    """Parses heads; those that come again are found by their bytes."""

    def __init__(self) -> None:
        self._kept: Dict[bytes, RequestHead] = {}

    def head(self, data: bytes) -> RequestHead:
        """The head in `data`, which ends with its empty line.

        Raises:
            InvalidRequestError: it isn't a sound HTTP/1.1 (or 1.0) head.
        """
        found = self._kept.get(data)
        if found is None:
            found = parsed_head(data)
            if len(data) <= _KEPT_NBYTES and found.traceparent is None:
                if len(self._kept) >= _KEPT_HEADS:
                    self._kept.clear()
                self._kept[data] = found
        return found

    def forget(self) -> None:
        """Keeps none of those that came so far."""
        self._kept.clear()


class _Received:
    """What the parser calls, and what it said at the end of the head."""

    def __init__(self) -> None:
        self.url = b""
        self.headers: Dict[bytes, bytes] = {}
        self.count = 0
        self.is_whole = False
        self.method = b""
        self.version = ""
        self.keeps_alive = False
        self.parser: Any = httptools.HttpRequestParser(self)

    def on_url(self, url: bytes) -> None:
        self.url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        self.count += 1
        key = name.lower()
        if self.count > _MAX_HEADERS or (key in self.headers and key in _SINGLE):
            raise InvalidRequestError("not a valid HTTP request")
        self.headers[key] = b", ".join([self.headers[key], value]) if key in self.headers else value

    def on_headers_complete(self) -> None:
        self.is_whole = True
        self.method = self.parser.get_method()
        self.version = self.parser.get_http_version()
        self.keeps_alive = self.parser.should_keep_alive()


_SINGLE = frozenset(
    {
        b"authorization",
        b"content-encoding",
        b"content-length",
        b"expect",
        b"host",
        b"inference-header-content-length",
        b"transfer-encoding",
    }
)


def parsed_head(data: bytes) -> RequestHead:
    """The head in `data`.

    Raises:
        InvalidRequestError: llhttp refuses it, or it says how long its body is in more than one way.
    """
    received = _Received()
    try:
        received.parser.feed_data(data)
    except httptools.HttpParserUpgrade:
        pass  # declined: the request is answered as it is
    except (httptools.HttpParserError, InvalidRequestError):
        raise InvalidRequestError("not a valid HTTP request") from None
    received.parser = None  # which knows it, so that neither would be freed
    headers, version = received.headers, received.version
    is_sound = received.is_whole and version in ("1.0", "1.1") and (version == "1.0" or b"host" in headers)
    coding = headers.get(b"transfer-encoding")
    if coding is not None:
        is_sound = is_sound and version == "1.1" and coding.lower() == b"chunked" and b"content-length" not in headers
    length = headers.get(b"content-length", b"0")
    if not is_sound or not length.isdigit() or len(length) > 18:
        raise InvalidRequestError("not a valid HTTP request")
    return RequestHead(received)


def may_begin_head(data: bytes) -> bool:
    """Whether a request line may begin so: llhttp would wait for the end of what is no HTTP at all."""
    word = data.lstrip(b"\r\n")[:20].split(b" ", 1)[0]
    return not word or (word.isalpha() and word.isupper() and len(word) < 20)

"""`ModelStreamInfer`'s messages, as Triton's own classes read them."""

from __future__ import annotations

import pytest
from tritonclient.grpc import service_pb2

from edge_runtime.wire.grpc_stream import request_id, streamed_error, streamed_response


@pytest.mark.parametrize("nbytes", [0, 1, 100, 127, 128, 20_000, 3_000_000])
def test_a_response_is_the_unary_one_and_says_that_it_is_final(nbytes: int) -> None:
    inner = service_pb2.ModelInferResponse(model_name="m", id="é", raw_output_contents=[bytes(nbytes)])
    found = service_pb2.ModelStreamInferResponse.FromString(b"".join(streamed_response(inner.SerializeToString())))
    inner.parameters["triton_final_response"].bool_param = True
    assert (found.infer_response, found.error_message) == (inner, "")


def test_an_error_says_which_request_it_is_about() -> None:
    found = service_pb2.ModelStreamInferResponse.FromString(streamed_error("é7", "no such model"))
    assert (found.error_message, found.infer_response.id) == ("no such model", "é7")
    assert found.infer_response.parameters["triton_final_response"].bool_param


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (service_pb2.ModelInferRequest(id="a", raw_input_contents=[b"x"]).SerializeToString(), "a"),
        (service_pb2.ModelInferRequest(id="a").SerializeToString(), "a"),
        (b"", ""),
        (b"\xff", None),
        (b"\x1a\x05half", None),
    ],
)
def test_the_id_is_read_from_what_is_a_request(data: bytes, expected: str | None) -> None:
    assert request_id(data) == expected
    assert request_id(memoryview(data)) == expected

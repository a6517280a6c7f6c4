"""Unary gRPC over HTTP/2 without TLS, on asyncio: frames, flow control, limits. What is called is handed in."""

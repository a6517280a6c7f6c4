"""HTTP/1.1 on asyncio: strict heads, bodies within limits, and a short way for binary inferences."""

"""A client for a running server."""

from edge_runtime.client.client import Client as Client

__all__ = ["Client"]

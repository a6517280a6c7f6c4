"""Clients for a running server: blocking, and on asyncio."""

from edge_runtime.client.async_client import AsyncClient as AsyncClient
from edge_runtime.client.client import Client as Client
from edge_runtime.client.credentials import Credentials as Credentials

__all__ = ["AsyncClient", "Client", "Credentials"]

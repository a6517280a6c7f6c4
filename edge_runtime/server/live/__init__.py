"""The live page: what the server does now, for a person who watches it in a browser."""

"""How fast an engine or a server is, and on what machine that was measured."""

"""The board: what it is."""

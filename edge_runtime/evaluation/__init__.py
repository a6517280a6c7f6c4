"""How good and how fast: metrics, intervals and latency."""

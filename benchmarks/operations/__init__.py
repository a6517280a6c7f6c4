"""Parts of `benchmarks/operations.py`."""

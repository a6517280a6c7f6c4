"""What a server does under load, abuse and accidents: the parts of `benchmarks/robustness.py`."""

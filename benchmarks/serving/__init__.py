"""The parts of `benchmarks/serving.py`: nets, servers, load, cells, bars and the report."""

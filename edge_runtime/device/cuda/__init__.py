"""CUDA from Python: one port, an adapter a library, and objects that own what they allocate."""

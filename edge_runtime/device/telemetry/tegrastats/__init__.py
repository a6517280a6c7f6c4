"""What NVIDIA's tegrastats prints: one line as a sample, and whole logs."""

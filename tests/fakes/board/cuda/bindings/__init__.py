"""cuda-python of a fake board. It is a fake, and nothing timed on it is a measurement."""

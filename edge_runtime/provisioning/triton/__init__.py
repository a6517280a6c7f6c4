"""From a Triton model repository to recipes."""

"""Memory of models: what each needs, what is left, and which may be loaded."""

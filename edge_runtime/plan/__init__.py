"""Plans as files: what they were built from and for, and where they are kept."""

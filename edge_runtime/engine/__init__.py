"""A loaded plan that runs."""

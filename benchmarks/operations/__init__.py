"""Years in the field, held against goals: what `operations.py` runs."""

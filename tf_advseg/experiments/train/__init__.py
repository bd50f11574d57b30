"""A training run: its stages, their results, the report."""

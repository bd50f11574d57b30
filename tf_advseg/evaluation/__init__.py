"""Evaluation: exact confusion matrices of whole splits, their metrics, and prediction."""

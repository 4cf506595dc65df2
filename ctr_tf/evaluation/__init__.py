"""Evaluation of predictions: reading them, the report, its table and its page."""

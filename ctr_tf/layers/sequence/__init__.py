"""Blocks over behaviour sequences."""

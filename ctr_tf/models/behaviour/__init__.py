"""Architectures over behaviour sequences."""

"""Architectures of feature interaction."""

"""Blocks of retrieval models."""

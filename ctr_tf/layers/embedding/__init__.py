"""Embedding tables and what feeds them."""

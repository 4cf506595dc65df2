"""Attention over behaviours."""

"""Losses over named outputs."""

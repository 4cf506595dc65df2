"""Shared blocks of the architectures."""

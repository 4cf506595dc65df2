"""Experts, gates and towers of several tasks."""

"""Optimisers: schedules, and one optimiser a group of variables."""

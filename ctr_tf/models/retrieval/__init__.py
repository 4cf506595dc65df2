"""Models that tell a few items of a whole catalogue."""

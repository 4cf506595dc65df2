"""Feature interaction."""

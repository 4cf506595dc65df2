"""The items with the best scores of a whole catalogue, as a SavedModel."""

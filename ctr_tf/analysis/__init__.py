"""Analysis of models: what they cost."""

"""Beam jobs, one file each; what they do stands in `pipelines.transforms`."""

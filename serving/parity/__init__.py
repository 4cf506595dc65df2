"""Parity of training and serving, as a job: `python -m serving.parity`."""

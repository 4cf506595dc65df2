"""Independent NumPy oracles of the architectures, written from the papers' equations alone.

Every oracle scores one (request, candidate) pair in the classical, un-split form: features are
concatenated and pass through ordinary dense layers, in float64, with plain loops.
"""

"""Independent NumPy oracles of the architectures, written from the papers' equations alone.

Every oracle is in the classical, un-split form: features are concatenated and pass through
ordinary dense layers, in float64, with plain loops. Those of feature interaction and of
multi-task models take batches; the others score one (request, candidate) pair.
"""

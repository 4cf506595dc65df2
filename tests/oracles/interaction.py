"""Oracles of the factorisation machines: FM, FFM, FwFM and FmFM.

Every field holds one feature. `x` are the field embeddings (B, F, D), each times its field's
value; `first_order` are the products w_i x_i (B, F). Kernels are (in, out), y = x @ kernel, which
is the papers' W transposed. Pairs are (0, 1), (0, 2), ..., (F - 2, F - 1); P = F (F - 1) / 2.
"""

from collections.abc import Sequence
from itertools import combinations

import numpy as np

from .blocks import Array, dense
from .deepfm import fm


def pair_list(fields: int) -> list[tuple[int, int]]:
    """Pairs of fields i < j, in the order of every oracle here.

    Example:
        >>> pair_list(3)
        [(0, 1), (0, 2), (1, 2)]
    """
    return list(combinations(range(fields), 2))


def linear_term(first_order: Array | None, bias: float, batch: int) -> Array:
    """w_0 + sum_i w_i x_i, (B,).

    Args:
        first_order: (B, F), or None for a model without first-order terms.
        bias: w_0.
        batch: B.
    """
    logits = np.full(batch, float(bias))
    if first_order is not None:
        logits += np.sum(np.asarray(first_order, np.float64), axis=1)
    return logits


def fm_forward(x: Array, first_order: Array, bias: float) -> Array:
    """Logits (B,) of a factorisation machine (Rendle 2010, ICDM, equation 1).

    w_0 + sum_i w_i x_i + sum over i < j of <v_i, v_j> x_i x_j.

    Args:
        x: (B, F, D).
        first_order: (B, F).
        bias: w_0.
    """
    return np.array([fm(w, v, bias) for w, v in zip(first_order, x, strict=True)])


def fm_parameters(features: int, dim: int) -> int:
    """1 + n + n D for `features` n over all fields.

    Example:
        >>> fm_parameters(10, 4)
        51
    """
    return 1 + features + features * dim


def ffm_forward(x: Array, first_order: Array | None = None, bias: float = 0.0) -> Array:
    """Logits (B,) of a field-aware FM (Juan et al. 2016, RecSys, section 3, equation 4).

    sum over i < j of <w_{i, f_j}, w_{j, f_i}> x_i x_j. Choice: the equation has neither bias nor
    first-order terms, the default here; Pan et al. 2018 (arXiv:1806.03514) and most libraries add
    them, the arguments.

    Args:
        x: (B, F, F, D); x[:, i, j] is what field i shows to field j. The diagonal is not read.
        first_order: (B, F) or None.
        bias: w_0.
    """
    x = np.asarray(x, np.float64)
    logits = linear_term(first_order, bias, len(x))
    for i, j in pair_list(x.shape[1]):
        logits += np.sum(x[:, i, j] * x[:, j, i], axis=1)
    return logits


def ffm_parameters(
    features: int, fields: int, dim: int, own_field: bool = True, first_order: bool = False
) -> int:
    """n F D as Juan et al. 2016 count (table 1).

    Args:
        features: n over all fields.
        fields: F.
        dim: D.
        own_field: False leaves out vectors towards the own field, n (F - 1) D, as in Pan et al.
        first_order: Add w_0 and w_i.

    Example:
        >>> ffm_parameters(10, 3, 4), ffm_parameters(10, 3, 4, own_field=False, first_order=True)
        (120, 91)
    """
    vectors = features * (fields if own_field else fields - 1) * dim
    return vectors + (1 + features if first_order else 0)


def linear_vectors(x: Array, vectors: Array) -> Array:
    """FwFM's linear terms by vectors, <v_i, w_i> for every field, (B, F).

    Args:
        x: (B, F, D).
        vectors: (F, D), one per field (FiLV), or (B, F, D), one per feature (FeLV).
    """
    return np.sum(np.asarray(x, np.float64) * np.asarray(vectors, np.float64), axis=-1)


def fwfm_forward(x: Array, strengths: Array, first_order: Array, bias: float) -> Array:
    """Logits (B,) of a field-weighted FM (Pan et al. 2018, arXiv:1806.03514, section 3).

    w_0 + sum_i w_i x_i + sum over i < j of <v_i, v_j> x_i x_j r_{F(i), F(j)}. Choice: a scalar
    w_i for every feature (LW); for FeLV or FiLV pass `linear_vectors` as `first_order`.

    Args:
        x: (B, F, D).
        strengths: r, (F, F); read above the diagonal only.
        first_order: (B, F).
        bias: w_0.
    """
    x, strengths = np.asarray(x, np.float64), np.asarray(strengths, np.float64)
    logits = linear_term(first_order, bias, len(x))
    for i, j in pair_list(x.shape[1]):
        logits += strengths[i, j] * np.sum(x[:, i] * x[:, j], axis=1)
    return logits


def fwfm_parameters(features: int, fields: int, dim: int, linear: str = "LW") -> int:
    """1 + n D + F (F - 1) / 2 and the linear terms: n for "LW", n D for "FeLV", F D for "FiLV".

    Example:
        >>> [fwfm_parameters(10, 3, 4, linear) for linear in ("LW", "FeLV", "FiLV")]
        [54, 84, 56]
    """
    terms = {"LW": features, "FeLV": features * dim, "FiLV": fields * dim}[linear]
    return 1 + features * dim + len(pair_list(fields)) + terms


def fmfm_forward(
    x: Array | Sequence[Array],
    matrices: Sequence[Array],
    first_order: Array,
    bias: float,
) -> Array:
    """Logits (B,) of a field-matrixed FM (Sun et al. 2021, arXiv:2102.12994, section 3).

    w_0 + sum_i w_i x_i + sum over i < j of <v_i M_{F(i), F(j)}, v_j> x_i x_j. The matrix is on the
    left field, i < j; on the right field it would be the transpose.

    Args:
        x: (B, F, D), or a list of F arrays (B, D_i) for field-specific dimensions.
        matrices: P matrices, (D_i, D_j) for pair (i, j).
        first_order: (B, F).
        bias: w_0.
    """
    fields = list(np.moveaxis(x, 1, 0)) if isinstance(x, np.ndarray) else list(x)
    logits = linear_term(first_order, bias, len(fields[0]))
    for (i, j), matrix in zip(pair_list(len(fields)), matrices, strict=True):
        logits += np.sum(dense(fields[i], matrix, None) * fields[j], axis=1)
    return logits


def fmfm_parameters(features: Sequence[int], dims: Sequence[int]) -> int:
    """1 + sum_i n_i (1 + D_i) + sum over i < j of D_i D_j.

    Args:
        features: n_i of every field.
        dims: D_i of every field.

    Example:
        >>> fmfm_parameters([5, 5], [4, 4]), fmfm_parameters([5, 5], [4, 2])
        (67, 49)
    """
    tables = sum(n * (1 + d) for n, d in zip(features, dims, strict=True))
    return 1 + tables + sum(dims[i] * dims[j] for i, j in pair_list(len(dims)))

"""Oracle of what the MLP behind SRP4CTR reads, of the full model and of Table 3's ablations.

The paper shows it in Figure 2 alone and says nothing of what stands in for a part that is left out.
Taken here:

| row | parts, in this order |
|---|---|
| SRP4CTR, scratch, tied | uni-attention, queries, candidate, user, context |
| w/o uni-att | queries, candidate, user, context |
| w/o qFormer | uni-attention, mean, candidate, user, context |
| w/o uni-att & qFormer | mean, candidate, user, context |
| MP | mean of the patched encoder, candidate, user, context |

The candidate is there by its embedding in all of them. The mean is that of the encoder's output
over valid behaviours; queries are flattened, first query first.
"""

from collections.abc import Sequence

import numpy as np

from ..blocks import Array


def masked_mean(encoded: Array, mask: Array) -> Array:
    """Mean over valid rows, (W,); zero without one.

    Args:
        encoded: (L, W).
        mask: (L,) booleans.

    Example:
        >>> masked_mean([[1.0], [3.0], [9.0]], [True, True, False]).tolist()
        [2.0]
    """
    rows = np.asarray(encoded, np.float64)[np.asarray(mask, bool)]
    return rows.sum(axis=0) / max(len(rows), 1)


def head_input(
    encoded: Array,
    mask: Array,
    candidate: Sequence[Array],
    user: Sequence[Array],
    context: Sequence[Array],
    uni: Array | None = None,
    queries: Array | None = None,
) -> Array:
    """Concatenation that the MLP reads, of one candidate.

    Args:
        encoded: output of the encoder, (L, W), read where there are no queries.
        mask: valid behaviours, (L,) booleans.
        candidate, user, context: vectors of their fields, (D_i,) each; the last two may be empty.
        uni: the last uni-attention's output, (W,); None without uni-attention.
        queries: output of the querying transformer, (K, W); None without it.
    """
    interest = masked_mean(encoded, mask) if queries is None else np.reshape(queries, -1)
    parts = [] if uni is None else [uni]
    return np.concatenate([*parts, interest, *candidate, *user, *context])

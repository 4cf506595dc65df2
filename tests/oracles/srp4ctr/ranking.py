"""Oracle of next-item metrics over a full catalogue, ties shared out.

Items that score as the target does stand in random order: each metric is its expectation over those
orders. A model that scores all items alike gets k / V for HR@k, not 1 or 0, whichever way a sort
leaves ties.
"""

import numpy as np

from ..blocks import Array


def target_ranks(scores: Array, target: int, allowed: Array | None = None) -> range:
    """Ranks, from 1, that the target has over all orders of its ties, each as likely.

    Args:
        scores: (V,).
        target: the next item, an allowed one.
        allowed: the catalogue, (V,) booleans, without padding, mask and unknown; None for all.

    Raises:
        ValueError: the target is not allowed, or a score of the catalogue is not finite.

    Example:
        >>> target_ranks([0.5, 0.9, 0.5, 0.1], 0)
        range(2, 4)
    """
    scores = np.asarray(scores, np.float64)
    allowed = np.ones(len(scores), bool) if allowed is None else np.asarray(allowed, bool)
    if not allowed[target]:
        raise ValueError(f"target must be of the catalogue; got {target}")
    rivals = scores[allowed]
    if not np.isfinite(rivals).all():
        raise ValueError("scores must be finite; got NaN or infinity")
    above = int(np.sum(rivals > scores[target]))
    return range(above + 1, above + 1 + int(np.sum(rivals == scores[target])))


def next_item_metrics(
    scores: Array, targets: Array, k: int, allowed: Array | None = None
) -> dict[str, float]:
    """Means over rows of HR@k, NDCG@k and MRR, with one relevant item a row.

    HR is 1 where the rank r is at most k, NDCG 1 / log2(r + 1) there, else 0; MRR is 1 / r of any
    rank.

    Args:
        scores: (B, V).
        targets: (B,).
        k: cut-off.
        allowed: As in `target_ranks`, (V,) or (B, V): a row's own leaves out what it has seen, say.

    Returns:
        "hr", "ndcg" and "mrr".
    """
    scores = np.asarray(scores, np.float64)
    catalogue = np.ones(scores.shape, bool) if allowed is None else allowed
    rows = np.broadcast_to(np.asarray(catalogue, bool), scores.shape)
    totals = np.zeros(3)
    for row, target, own in zip(scores, targets, rows, strict=True):
        ranks = target_ranks(row, target, own)
        for r in ranks:
            found = (r <= k, (r <= k) / np.log2(r + 1.0), 1.0 / r)
            totals += np.array(found, np.float64) / len(ranks)
    return dict(zip(("hr", "ndcg", "mrr"), (totals / len(scores)).tolist(), strict=True))

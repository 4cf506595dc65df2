"""Oracle of ELECTRA's objective (Clark et al. 2020, arXiv:2003.10555, section 2) on item sequences.

A small generator is a masked-item model; its samples replace the masked items; the discriminator
tells at each valid position whether the item is the one that was there. A sample that happens to be
the right item counts as real. The discriminator is what is transferred.

What is taken here where it is open:

- SRP4CTR does not say what a token is: the item id; with behaviours in the input, they stay as they
  are.
- The paper's losses add up over positions. Its released code averages, the generator's over masked
  positions and the discriminator's over valid ones, and its weight 50 is of averages.
- D is the probability of a real item, as in the paper; the code's logit has the other sign.
- Of the two the generator alone ranks next items.
"""

import numpy as np

from ..blocks import Array
from ..multitask import bce


def corrupt(items: Array, masked: Array, samples: Array) -> tuple[Array, Array]:
    """Items with the generator's samples where they were masked, and which are still real.

    Args:
        items: (B, L).
        masked: (B, L) booleans.
        samples: (B, L), read where masked; no gradient passes through them.

    Returns:
        (B, L) items and (B, L) booleans.

    Example:
        >>> corrupted, real = corrupt([[5, 6, 7]], [[True, False, True]], [[5, 0, 9]])
        >>> corrupted.tolist(), real.tolist()
        ([[5, 6, 9]], [[True, True, False]])
    """
    items = np.asarray(items)
    corrupted = np.where(masked, samples, items)
    return corrupted, corrupted == items


def electra_loss(
    generator: Array,
    masked: Array,
    logits: Array,
    real: Array,
    mask: Array,
    weight: float = 50.0,
    reduction: str = "positions",
) -> tuple[float, float, float]:
    """Loss of both networks, L_MLM + lambda L_Disc (section 2).

    L_Disc is the mean over valid positions of -log D where the item is real and -log(1 - D)
    elsewhere.

    Args:
        generator: cross-entropies of the masked items, (B, L), read where masked.
        masked: (B, L) booleans.
        logits: of D, (B, L), read where valid.
        real: (B, L) booleans.
        mask: valid positions, (B, L) booleans.
        weight: lambda.
        reduction: "positions" (means over the batch's positions) or "sum" (the paper's sums).

    Returns:
        L, L_MLM and L_Disc; a loss without positions is 0.

    Raises:
        ValueError: `reduction` is an unknown name.
    """
    if reduction not in ("positions", "sum"):
        raise ValueError(f"reduction must be positions or sum; got {reduction!r}")
    chosen, valid = np.asarray(masked, bool), np.asarray(mask, bool)
    parts = [
        np.asarray(generator, np.float64)[chosen],
        bce(np.asarray(real)[valid], np.asarray(logits)[valid]),
    ]
    of_generator, of_discriminator = (
        float(part.sum()) / (max(len(part), 1) if reduction == "positions" else 1) for part in parts
    )
    return of_generator + weight * of_discriminator, of_generator, of_discriminator

"""Oracle of S3-Rec's four objectives (Zhou et al. 2020, arXiv:2008.07873, section 4).

The paper's scores are f = sigma(x^T W e), with a matrix W of each objective, x being

- AAP, associated attributes: the item embedding e_i, e an attribute of the item;
- MIP, masked item: the encoder's output at the masked position, e the item there;
- MAP, masked attributes: the same, e an attribute of the item there;
- SP, segment: the encoder's output s of the sequence without a segment, e that of the segment.

Each is maximised as f(positive) - log sum over negatives of e^f; negatives are all other items, the
attributes that the item does not have, other segments.

Where the released code parts from that:

- AAP and MAP are binary cross-entropies over all attributes, summed; AAP reads the
  encoder's output at unmasked positions instead of item embeddings.
- MIP and SP are -log sigma(f(positive) - f(negative)) of one sampled negative ("pairwise"), f with
  its own sigma: it lies between log(1 + 1 / e) and log(1 + e), 0.3133 and 1.3133.
- W is a dense layer of x, with a bias.
- Segments keep their places in a row of masks, and s is the output at the last position; a segment
  has 1 to half of the sequence's items, the negative one is cut from all users' sequences in a row.
- Sequences are all prefixes of a history, the item at the last position always masked.

Its weights of AAP, MIP, MAP and SP are 0.2, 1, 1 and 0.5, and its encoder reads ids and positions
alone.
"""

from collections.abc import Sequence

import numpy as np

from ..blocks import Activation, Array, Layer, dense
from ..multitask import bce

WEIGHTS = (0.2, 1.0, 1.0, 0.5)


def scores(
    x: Array, projection: Layer, embeddings: Array, activation: Activation = "sigmoid"
) -> Array:
    """f of one row and each embedding, sigma((x W + b) e^T).

    Args:
        x: (W,).
        projection: (kernel (W, W), bias (W,) or None).
        embeddings: (V, W).
        activation: sigma; None for the logits, which binary cross-entropy takes.

    Returns:
        (V,).
    """
    return dense(dense(x, *projection), np.transpose(embeddings), None, activation)


def pairwise(positive: float, negative: float) -> float:
    """-log sigma(f - f_negative), with one sampled negative (MIP and SP of the code).

    Example:
        >>> round(pairwise(1.0, 0.0), 4), round(pairwise(0.0, 1.0), 4)
        (0.3133, 1.3133)
    """
    return float(np.logaddexp(0.0, negative - positive))


def attribute_loss(logits: Array, attributes: Sequence[int]) -> float:
    """AAP or MAP of one position: the sum over all attributes of their cross-entropies.

    Args:
        logits: of every attribute, before sigma, (A,).
        attributes: those of the item.
    """
    owned = np.isin(np.arange(len(logits)), list(attributes))
    return float(np.sum(bce(owned, logits)))


def segment_inputs(
    items: Sequence[int], start: int, negative: Sequence[int], masked: int
) -> tuple[list[int], list[int], list[int]]:
    """What the encoder reads for SP: the sequence without a segment, that segment, and another.

    Args:
        items: of the user.
        start: of the segment.
        negative: as many items as the segment has, of another place.
        masked: the mask's id.

    Example:
        >>> segment_inputs([1, 2, 3, 4], 1, [8, 9], 0)
        ([1, 0, 0, 4], [0, 2, 3, 0], [0, 8, 9, 0])
    """
    inside = range(start, start + len(negative))
    context = [masked if i in inside else v for i, v in enumerate(items)]
    segment = [v if i in inside else masked for i, v in enumerate(items)]
    other = [negative[i - start] if i in inside else masked for i in range(len(items))]
    return context, segment, other


def s3_rec_loss(
    aap: float, mip: float, map_: float, sp: float, weights: Sequence[float] = WEIGHTS
) -> float:
    """Weighted sum of the four losses.

    Example:
        >>> s3_rec_loss(1.0, 10.0, 100.0, 1000.0)
        610.2
    """
    return float(np.dot((aap, mip, map_, sp), weights))

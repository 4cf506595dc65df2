"""Oracle of the Cloze losses: BERT4Rec (Sun et al. 2019, arXiv:1904.06690, equations 7 and 8) and
FG-BERT (Han et al. 2024, equation 1).

What the papers leave open, and what is taken here:

- Equation 1 has a product over the behaviour attributes of an element, but p(x_k | ...) of an item
  without one. It is read alike, a product over its M attributes.
- Each attribute has a projection of its own before its table; one for all of them is the same layer
  passed each time. BERT4Rec's code normalises behind the GELU, its equation 7 does not: `norm`.
- Candidates are the values of the vocabulary; padding, mask and unknown are none (`allowed`).
  BERT4Rec's code has them all in its softmax.
- Of a multi-valued attribute each value is a Bernoulli of its own, whose log-likelihoods add up:
  the sum over values, not their mean.
- Equation 8 is the mean over a sequence's masked elements (`reduction="sequences"`: then the mean
  over sequences that have any); the code divides the batch's sum by its masked elements
  ("positions").
- Weights of the tasks are not given.
"""

from collections.abc import Sequence

import numpy as np

from ..blocks import Activation, Array, Layer, dense
from ..multitask import bce
from ..transformer import gelu, layer_norm


def cloze_logits(
    h: Array,
    projection: Layer,
    table: Array,
    bias: Array,
    norm: tuple[Array, Array, float] | None = None,
    activation: Activation = gelu,
) -> Array:
    """GELU(h W^P + b^P) E^T + b^O (equation 7), with the input's own table E.

    Args:
        h: encoder outputs of P masked elements, (P, W).
        projection: (kernel (W, W), bias) of W^P and b^P.
        table: E, (V, W).
        bias: b^O, (V,).
        norm: (gamma, beta, epsilon) of a normalisation before the table, or None.
        activation: GELU.

    Returns:
        (P, V).
    """
    x = dense(h, *projection, activation)
    if norm is not None:
        x = layer_norm(x, *norm)
    return dense(x, np.transpose(table), bias)


def softmax_cross_entropy(logits: Array, labels: Array, allowed: Array | None = None) -> Array:
    """-log softmax(logits)_label of every row, over the allowed values.

    Args:
        logits: (P, V).
        labels: (P,), each an allowed value.
        allowed: (V,) booleans, or None for all.

    Returns:
        (P,).

    Raises:
        ValueError: a label is not allowed.
    """
    logits = np.asarray(logits, np.float64)
    allowed = np.ones(logits.shape[1], bool) if allowed is None else np.asarray(allowed, bool)
    if not allowed[labels].all():
        raise ValueError(f"labels must be allowed values; got {np.asarray(labels).tolist()}")
    losses = [
        np.logaddexp.reduce(row[allowed]) - row[label]
        for row, label in zip(logits, labels, strict=True)
    ]
    return np.array(losses)


def multi_label_cross_entropy(
    logits: Array, labels: Sequence[Sequence[int]], allowed: Array | None = None
) -> Array:
    """Sum over allowed values of the binary cross-entropy of being among the labels, (P,).

    Args:
        logits: (P, V).
        labels: values of each row, possibly none.
        allowed: (V,) booleans, or None for all.
    """
    logits = np.asarray(logits, np.float64)
    allowed = np.ones(logits.shape[1], bool) if allowed is None else np.asarray(allowed, bool)
    losses = np.zeros(len(logits))
    for i, row in enumerate(logits):
        for value in np.flatnonzero(allowed):
            losses[i] += bce(float(value in labels[i]), row[value])
    return losses


def sampled_softmax_cross_entropy(
    logits: Array,
    label: int,
    sampled: Sequence[int],
    expected: Array,
    positive: str = "corrected",
) -> float:
    """Softmax cross-entropy of one element over its label and sampled values, log-Q corrected.

    With t = s - log Q, -log(e^(t_y) / (e^(t_y) + sum of e^(t_j) over j in S, j != y)). A sampled
    value that is the label, an accidental hit, is left out; one sampled twice counts twice.

    With "corrected" (Yi et al. 2019, RecSys; TensorFlow's `sampled_softmax_loss`) the loss is that
    of telling the label from the set it stands in: where each value is in the sample with
    probability Q_j by itself, it is least at s_j = log P_j, whatever the number of samples. With
    "certain" the label, always there, has Q = 1: the denominator's expectation is then the full
    one (importance sampling, from which Jean et al. 2015, arXiv:1412.2007, section 3, start; their
    own Q is uniform over a subset that holds the labels, and cancels).

    Args:
        logits: s, (V,); of the label and sampled values alone are read.
        label: y.
        sampled: S, for the whole batch or this element, with or without repetition.
        expected: Q, how often each value is in S on average, (V,): draws times its probability
            with replacement, else as of `unique_expected`.
        positive: "corrected" or "certain".

    Raises:
        ValueError: `positive` is an unknown name.
    """
    if positive not in ("corrected", "certain"):
        raise ValueError(f"positive must be corrected or certain; got {positive!r}")
    own = logits[label] - (np.log(expected[label]) if positive == "corrected" else 0.0)
    total = own
    for value in sampled:
        if value != label:
            total = np.logaddexp(total, logits[value] - np.log(expected[value]))
    return float(total - own)


def unique_expected(probabilities: Array, draws: int) -> Array:
    """Q of values drawn without repetition, 1 - (1 - p)^draws, by TensorFlow's samplers.

    Args:
        probabilities: of one draw, (V,).
        draws: how many were made until all sampled values differed.

    Example:
        >>> unique_expected([0.5, 0.25], 2).tolist()
        [0.75, 0.4375]
    """
    return 1.0 - (1.0 - np.asarray(probabilities, np.float64)) ** draws


def fg_bert_loss(
    losses: Sequence[Array],
    masked: Sequence[Array],
    weights: Sequence[float] | None = None,
    reduction: str = "positions",
) -> tuple[float, Array]:
    """Multi-task sum of the attributes' losses, L = sum_a w_a L_a (equation 1, negative logarithm).

    Args:
        losses: of each attribute, item-related ones first, cross-entropies (B, L); what is not
            masked is not read and may be NaN.
        masked: of each attribute, (B, L) booleans: the item mask or the behaviour mask, without
            elements that have no value of the attribute.
        weights: w, one an attribute; None for 1.
        reduction: "positions", "sequences" or "sum".

    Returns:
        L, and the attributes' L_a; 0 for one without masked elements.

    Raises:
        ValueError: `reduction` is an unknown name.
    """
    if reduction not in ("positions", "sequences", "sum"):
        raise ValueError(f"reduction must be positions, sequences or sum; got {reduction!r}")
    means = np.zeros(len(losses))
    for a, (loss, chosen) in enumerate(zip(losses, masked, strict=True)):
        rows = [np.asarray(x, np.float64)[m] for x, m in zip(loss, np.asarray(chosen, bool))]
        sums, counts = [row.sum() for row in rows], [len(row) for row in rows]
        if reduction == "sequences":
            found = [s / n for s, n in zip(sums, counts) if n]
            means[a] = sum(found) / max(len(found), 1)
        else:
            means[a] = sum(sums) / (max(sum(counts), 1) if reduction == "positions" else 1)
    shares = np.ones(len(losses)) if weights is None else np.asarray(weights, np.float64)
    return float(np.sum(shares * means)), means

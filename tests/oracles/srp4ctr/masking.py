"""Oracle of what is masked, and how much of it.

FG-BERT (Han et al. 2024, section 2.1) has two sets of masked elements, drawn at random; it gives
neither rates nor a rule. BERT4Rec (Sun et al. 2019, arXiv:1904.06690, section 3.6)
masks a proportion rho of a sequence's items at random. Its released code makes of it a number,
max(1, round(rho L)), so that each sequence has a target; an element is always replaced by the mask
(BERT's 80 / 10 / 10 is there, turned off).

A further sample of each window has its last item masked alone, for that is what is asked for in the
end (paper and code): one beside ten drawn ones in the code. FG-BERT's text has no such sample; one
of its own would mask the last element in both ways, as where the next item is asked for.

Both draws are taken as independent: an element is masked in both ways with the product of both
rates. The text's j_p < L and k_q < L are read as "an index of the sequence": the last element is
masked like any other, and nothing breaks where all are.
"""

import numpy as np

from ..blocks import Array


def masked_count(length: int, rate: float) -> int:
    """Masked elements of a sequence, max(1, round(rate length)).

    Halves are rounded to even, as Python 3 has it; the code was Python 2, which rounds them up.

    Args:
        length: valid elements, L.
        rate: rho.

    Returns:
        0 for an empty sequence.

    Example:
        >>> [masked_count(n, 0.2) for n in (0, 1, 2, 3, 10)]
        [0, 1, 1, 1, 2]
    """
    return max(1, round(rate * length)) if length else 0


def case_rates(item: float, behaviour: float) -> dict[tuple[bool, bool], float]:
    """Share of elements in each of the four cases, (item masked, behaviour masked).

    Args:
        item, behaviour: shares of elements that each kind masks.

    Example:
        >>> case_rates(0.5, 0.25)[True, True], case_rates(0.5, 0.25)[True, False]
        (0.125, 0.375)
    """
    return {
        (x, s): (item if x else 1.0 - item) * (behaviour if s else 1.0 - behaviour)
        for x in (False, True)
        for s in (False, True)
    }


def overlap_moments(length: int, items: int, behaviours: int) -> tuple[float, float]:
    """Mean and variance of the number of elements masked in both ways, of two given counts.

    Two independent draws without replacement: hypergeometric, a b / L and
    a b (L - a) (L - b) / (L^2 (L - 1)).

    Args:
        length: L, at least 2.
        items, behaviours: masked elements a and b.

    Example:
        >>> overlap_moments(2, 1, 1)
        (0.5, 0.25)
    """
    a, b, total = items, behaviours, length
    spread = (total - a) * (total - b) / (total**2 * (total - 1))
    return a * b / total, a * b * spread


def last_masked(mask: Array) -> Array:
    """The further sample's masked elements: the last valid one alone, (L,) booleans.

    The released code refuses a sequence of one item, which has nothing to be told from.

    Args:
        mask: valid elements, (L,) booleans.

    Example:
        >>> last_masked([True, True, False]).tolist(), last_masked([False]).tolist()
        ([False, True, False], [False])
    """
    mask = np.asarray(mask, bool)
    last = np.zeros(len(mask), bool)
    last[np.flatnonzero(mask)[-1:]] = True
    return last

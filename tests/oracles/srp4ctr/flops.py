"""Operations of SRP4CTR's towers, and values of its parts, from sizes alone; as in `counts`.

Products alone are counted; look-ups, sums of embeddings, normalisations and softmaxes are not. One
user of L valid behaviours.
"""

from collections.abc import Sequence

from ..counts import dense_count, dense_flops, encoder_flops, mlp_count, mlp_flops, pooling_flops


def cross_flops(rows: int, length: int, width: int, hidden: int) -> int:
    """Of one `cross.cross_block` over given keys and values: its own two projections, scores,
    weighted sums and the feed-forward part.

    Args:
        rows: queries.
        length: L, keys.
        width: W.
        hidden: of the feed-forward part.

    Example:
        >>> cross_flops(1, 3, 2, 4)
        72
    """
    attended = dense_flops(width, length) + pooling_flops(length, width)
    return rows * (2 * dense_flops(width, width) + attended + mlp_flops(width, [hidden, width]))


def querying_flops(
    length: int, width: int, hidden: int, queries: int, layers: int = 1, features: int = 0
) -> int:
    """Of the querying transformer: the map to queries, and in each layer keys and values of the L
    rows and a cross block of K.

    Args:
        length, width, hidden: L, W and F.
        queries: K.
        layers: of the querying transformer.
        features: width of the features that queries start from; 0 for free queries.

    Example:
        >>> querying_flops(3, 2, 4, 5), querying_flops(3, 2, 4, 5, features=7)
        (408, 548)
    """
    projected = length * dense_flops(width, 2 * width)
    of_layer = projected + cross_flops(queries, length, width, hidden)
    return dense_flops(features, queries * width) + layers * of_layer


def srp4ctr_flops(
    length: int,
    width: int,
    hidden: int,
    layers: int,
    user: int,
    candidate: int,
    widths: Sequence[int],
    queries: int | None = None,
    query_layers: int = 1,
    query_features: int = 0,
    uni: bool = True,
) -> tuple[int, int]:
    """Of one user, and of one candidate more.

    The user's part has the encoder, whose keys and values uni-attention reads as they are, the
    querying transformer, and the first layer's product with the interest, user and context. A
    candidate's has its layers of uni-attention and the rest of the MLP.

    Args:
        length, width, hidden, layers: L, W, F and layers of the encoder.
        user: joint width of user and context fields.
        candidate: joint width of the candidate's fields.
        widths: of the MLP, output included.
        queries: K; None for the mean of the encoder's output, a weighted sum of L rows.
        query_layers, query_features: As in `querying_flops`.
        uni: whether there is uni-attention.

    Returns:
        (user, candidate): efficiency-FLOPs are user + candidate, inference-FLOPs of N
        candidates user + N candidate.
    """
    of_user = layers * encoder_flops(length, width, hidden)
    if queries is None:
        of_user += pooling_flops(length, width)
        interest = width
    else:
        of_user += querying_flops(length, width, hidden, queries, query_layers, query_features)
        interest = queries * width
    of_user += dense_flops(interest + user, widths[0])
    of_candidate = layers * cross_flops(1, length, width, hidden) if uni else 0
    joined = candidate + (width if uni else 0)
    return of_user, of_candidate + mlp_flops(joined, widths)


def shares(single: float, folded: float, candidates: int = 100) -> tuple[float, float]:
    """Cost of one user and of one candidate, of a cost of one and of one of many folded.

    Args:
        single: efficiency-FLOPs, u + c.
        folded: inference-FLOPs, u + N c.
        candidates: N.

    Example:
        >>> user, candidate = shares(26.88, 64.56)
        >>> round(user, 2), round(candidate, 3)
        (26.5, 0.381)
    """
    candidate = (folded - single) / (candidates - 1)
    return single - candidate, candidate


def cross_count(width: int, hidden: int, bias: bool = True) -> int:
    """Values of one `cross.cross_block`: two projections, the feed-forward part and two norms.

    Example:
        >>> cross_count(2, 3)
        37
    """
    return 2 * dense_count(width, width, bias) + mlp_count(width, [hidden, width]) + 4 * width


def patch_count(width: int, bottleneck: int) -> int:
    """Values of one model patch.

    Example:
        >>> patch_count(4, 1)
        13
    """
    return mlp_count(width, [bottleneck, width])

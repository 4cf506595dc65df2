"""Multi-head scaled dot-product attention, over sequences bucketed by length."""

from __future__ import annotations

from collections.abc import Callable

import keras
from keras import ops

from ctr_tf.layers.attention.buckets import Buckets
from ctr_tf.layers.packing import Packing
from ctr_tf.types import Tensor


def attend(
    queries: Tensor,
    keys: Tensor,
    values: Tensor,
    mask: Tensor | None = None,
    dropout: Callable[[Tensor], Tensor] | None = None,
) -> Tensor:
    """Dot-product attention (Vaswani et al. 2017, arXiv:1706.03762, equation 1): softmax(Q K^T) V.

    Queries come scaled, where that costs least; TensorFlow's oneDNN rewriting of a product next to
    a scale besides mixes up those of several buckets, one of them empty. It writes its own
    gradient, which passes over the weights fewer times than that of the parts: sum_k dW W, which
    the gradient of the softmax needs, is the narrower sum_d dY Y.

    Args:
        queries: (B, H, Q, d), times 1 / sqrt(d).
        keys, values: (B, H, K, d); finite, padding included.
        mask: (B, K), True where a key is valid; all by default. Where none is, all count alike.
        dropout: applied to the weights.

    Returns:
        (B, H, Q, d).

    Example:
        >>> keys = ops.array([[[[1.0, 0.0], [5.0, 5.0]]]])
        >>> attend(keys, keys, keys, ops.array([[True, False]])).numpy().tolist()
        [[[[1.0, 0.0], [1.0, 0.0]]]]
    """
    bias = None
    if mask is not None:
        # The lowest finite score instead of -inf: a row of padding alone must not give NaN.
        bias = ops.where(mask, 0.0, -1e9)[:, None, None, :]
    keep = None
    if dropout is not None:
        shape = (*ops.shape(queries)[:3], ops.shape(keys)[2])
        keep = dropout(ops.ones(shape, queries.dtype))

    @ops.custom_gradient
    def attention(queries: Tensor, keys: Tensor, values: Tensor):
        scores = ops.cast(_matmul(queries, keys, transpose_b=True), "float32")
        weights = _softmax(scores if bias is None else scores + bias)
        weights = ops.cast(weights, values.dtype)
        kept = weights if keep is None else weights * keep
        y = _matmul(kept, values)

        def gradient(*args, upstream=None):
            upstream = (args if upstream is None else upstream)[0]
            of_weights = _matmul(upstream, values, transpose_b=True)
            of_weights = of_weights if keep is None else of_weights * keep
            of_scores = weights * (of_weights - ops.sum(upstream * y, axis=-1, keepdims=True))
            return (
                _matmul(of_scores, keys),
                _matmul(of_scores, queries, transpose_a=True),
                _matmul(kept, upstream, transpose_a=True),
            )

        return y, gradient

    return attention(queries, keys, values)


def attend_with_mass(
    queries: Tensor, keys: Tensor, values: Tensor, mask: Tensor
) -> tuple[Tensor, Tensor]:
    """What `attend` returns, and the logarithm of the sum of exp(score) over the valid keys.

    With it attention takes in a further key exactly (see `with_one_more`), so that what all
    candidates share is computed once. Where no key is valid the mass is as good as none.

    Args:
        queries, keys, values, mask: as of `attend`.

    Returns:
        (B, H, Q, d) and (B, H, Q).
    """
    scores = ops.cast(_matmul(queries, keys, transpose_b=True), "float32")
    scores = scores + ops.where(mask, 0.0, -1e9)[:, None, None, :]
    largest = ops.stop_gradient(ops.max(scores, axis=-1, keepdims=True, initial=-1e9))
    shares = ops.exp(scores - largest)
    total = ops.sum(shares, axis=-1, keepdims=True)
    # Without a key at all the sum is 0; the mass of none is lost beside any other anyway.
    mass = largest + ops.log(ops.maximum(total, 1e-30))
    weights = ops.cast(shares / ops.maximum(total, 1e-30), values.dtype)
    return _matmul(weights, values), mass[..., 0]


def with_one_more(attended: Tensor, mass: Tensor, score: Tensor, value: Tensor) -> Tensor:
    """Attention with one more key: attended + sigmoid(score - mass) (value - attended).

    Args:
        attended: without it, (..., d).
        mass: see `attend_with_mass`, (...).
        score: of the further key, (...).
        value: of it, (..., d).

    Example:
        >>> zero = ops.zeros(())
        >>> with_one_more(ops.array([4.0]), ops.log(ops.array(3.0)), zero, ops.array([8.0])).numpy()
        array([5.], dtype=float32)
    """
    share = ops.sigmoid(ops.cast(score, "float32") - mass)
    return attended + ops.cast(share, value.dtype)[..., None] * (value - attended)


class SelfAttention(keras.layers.Layer):
    """Multi-head attention of the positions of a sequence to each other.

    Vaswani et al. 2017, arXiv:1706.03762, section 3.2.2: concat(head_1, ..., head_H) W^O with
    head_h = attention(X W_h^Q, X W_h^K, X W_h^V). Projections are of valid positions alone and one
    product; attention is over buckets of sequences of like length (see `Buckets`), in the padded
    form over all of them.

    Args:
        width: W, of the projections and of the output.
        heads: H, a divisor of W.
        dropout: rate of the attention weights.
        use_bias: whether projections have one; the paper's have none.

    Shapes:
        x: (P, D), packed by `packing`; returns (P, W).

    Raises:
        ValueError: H does not divide W.

    Example:
        >>> packing = Packing.of(ops.array([[True, False, False], [True, True, True]]))
        >>> SelfAttention(8, heads=2)(ops.ones((4, 5)), packing=packing).shape
        TensorShape([4, 8])
    """

    def __init__(
        self, width: int, heads: int, dropout: float = 0.0, use_bias: bool = False, **kwargs
    ):
        super().__init__(**kwargs)
        self.heads = _divisor(heads, width)
        self.width = width
        self.use_bias = use_bias
        self.output_projection = keras.layers.Dense(width, use_bias=use_bias, name="output")
        self.dropout = keras.layers.Dropout(dropout) if dropout else None

    def build(self, input_shape):
        self.kernel = self.add_weight(name="kernel", shape=(input_shape[-1], 3 * self.width))
        if self.use_bias:
            self.bias = self.add_weight(name="bias", shape=(3 * self.width,), initializer="zeros")
        self.output_projection.build((None, self.width))

    def project(self, x: Tensor, first: int = 0) -> Tensor:
        """Scaled queries, keys and values side by side: x (..., D) to (..., 3 W).

        What follows the first W is what `CrossAttention` takes as keys and values.

        Args:
            x: or a part of its columns, whose products add up; the bias is with the first one.
            first: the first of these columns.
        """
        # Scaling the weights costs nothing beside scaling the queries.
        scale = [(self.width // self.heads) ** -0.5] * self.width + [1.0] * (2 * self.width)
        kernel = ops.cast(self.kernel[first : first + x.shape[-1]], x.dtype)
        projected = ops.matmul(x, kernel * ops.array(scale, x.dtype))
        if self.use_bias and first == 0:
            projected = projected + ops.cast(self.bias, x.dtype) * ops.array(scale, x.dtype)
        return projected

    def call(self, x: Tensor, packing: Packing, training: bool = False) -> Tensor:
        return self.attend(self.project(x), packing, training)

    def cross(self, x: Tensor, keys_values: Tensor, mask: Tensor, training: bool = False) -> Tensor:
        """What `CrossAttention` makes of rows (B, N, W), with the queries' projection of this."""
        scale = (self.width // self.heads) ** -0.5
        queries = ops.matmul(x, ops.cast(self.kernel[:, : self.width] * scale, x.dtype))
        if self.use_bias:
            queries = queries + ops.cast(self.bias[: self.width] * scale, x.dtype)
        dropout = self.dropout if training else None
        attended = cross_attend(queries, keys_values, mask, self.heads, dropout)
        return self.output_projection(attended)

    def attend(self, projected: Tensor, packing: Packing, training: bool = False) -> Tensor:
        """What `call` makes of what `project` returns."""
        dropout = self.dropout if training else None
        if packing.padded:
            queries, keys, values = by_head(packing.unpack(projected), 3, self.heads)
            mask = ops.reshape(packing.weights > 0, packing.shape)
            y = packing.pack(joined(attend(queries, keys, values, mask, dropout)))
        else:
            buckets = Buckets.of(packing)
            laid = buckets.positions(3, self.heads).lay_out(projected)
            found = [attend(*own, mask, dropout) for own, mask in zip(laid, buckets.masks)]
            y = buckets.positions(1, self.heads).collect(found)
        return self.output_projection(y)


class CrossAttention(keras.layers.Layer):
    """Multi-head attention to keys and values that the caller has projected.

    As `SelfAttention`, whose projections of keys and values another layer can share; queries are
    projected here. Where a sequence has no valid position the attention is to nothing: zeros enter
    the output projection.

    Args:
        width: W, of queries, keys, values and of the output.
        heads: H, a divisor of W.
        dropout: rate of the attention weights.
        use_bias: whether projections have one.

    Shapes:
        queries (B, N, D); keys_values (B, L, 2 W), keys first; mask (B, L); returns (B, N, W).

    Raises:
        ValueError: H does not divide W.

    Example:
        >>> mask = ops.array([[True, False, False], [True, True, True]])
        >>> CrossAttention(8, heads=2)(ops.ones((2, 5, 3)), ops.ones((2, 3, 16)), mask).shape
        TensorShape([2, 5, 8])
    """

    def __init__(
        self, width: int, heads: int, dropout: float = 0.0, use_bias: bool = False, **kwargs
    ):
        super().__init__(**kwargs)
        self.heads = _divisor(heads, width)
        self.width = width
        self.query = keras.layers.Dense(width, use_bias=use_bias, name="query")
        self.output_projection = keras.layers.Dense(width, use_bias=use_bias, name="output")
        self.dropout = keras.layers.Dropout(dropout) if dropout else None

    def build(self, input_shape):
        self.query.build(input_shape)
        self.output_projection.build((*input_shape[:-1], self.width))

    def call(
        self, queries: Tensor, keys_values: Tensor, mask: Tensor, training: bool = False
    ) -> Tensor:
        dropout = self.dropout if training else None
        queries = self.query(queries) * (self.width // self.heads) ** -0.5
        attended = cross_attend(queries, keys_values, mask, self.heads, dropout)
        return self.output_projection(attended)


def cross_attend(
    queries: Tensor,
    keys_values: Tensor,
    mask: Tensor,
    heads: int,
    dropout: Callable[[Tensor], Tensor] | None = None,
) -> Tensor:
    """Attention of projected and scaled queries, by head and over buckets of sequences.

    Args:
        queries: (B, N, W).
        keys_values: (B, L, 2 W), keys first.
        mask: (B, L); where none is valid the result is zero.
        heads: H.
        dropout: see `attend`.

    Returns:
        (B, N, W).
    """
    packing = Packing.of(mask)
    packed = packing.pack(keys_values)
    if packing.padded:
        (own,) = by_head(queries, 1, heads)
        keys, values = by_head(packing.unpack(packed), 2, heads)
        return joined(attend(own, keys, values, mask, dropout))
    buckets = Buckets.of(packing)
    shape = ops.shape(queries)
    slots = buckets.queries(shape[1], heads)
    own = slots.lay_out(ops.reshape(queries, (-1, queries.shape[-1])))
    laid = buckets.positions(2, heads).lay_out(packed)
    found = [attend(*q, *kv, m, dropout) for q, kv, m in zip(own, laid, buckets.masks)]
    return ops.reshape(slots.collect(found), shape)


def _divisor(heads: int, width: int) -> int:
    if width % heads:
        raise ValueError(f"heads must divide the width, {width}; got {heads}")
    return heads


def by_head(x: Tensor, parts: int, heads: int) -> list[Tensor]:
    """x (B, L, S H d) as S tensors (B, H, L, d), such as queries, keys and values of each head."""
    shape = ops.shape(x)
    x = ops.reshape(x, (shape[0], shape[1], parts, heads, x.shape[-1] // (parts * heads)))
    return list(ops.unstack(ops.transpose(x, (2, 0, 3, 1, 4)), parts))


def joined(x: Tensor) -> Tensor:
    """x (B, H, L, d) as (B, L, H d)."""
    shape = ops.shape(x)
    width = shape[1] * shape[3]
    return ops.reshape(ops.transpose(x, (0, 2, 1, 3)), (shape[0], shape[2], width))


def _softmax(x: Tensor) -> Tensor:
    """Over the last axis, which may have one entry: Keras warns of that."""
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        return tf.nn.softmax(x)
    return ops.softmax(x)


def _matmul(a: Tensor, b: Tensor, transpose_a: bool = False, transpose_b: bool = False) -> Tensor:
    """The product of the last two axes; TensorFlow transposes within it."""
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        return tf.matmul(a, b, transpose_a=transpose_a, transpose_b=transpose_b)
    a = ops.swapaxes(a, -1, -2) if transpose_a else a
    return ops.matmul(a, ops.swapaxes(b, -1, -2) if transpose_b else b)

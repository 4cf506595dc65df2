"""DIN's attention of a candidate over the user's behaviours."""

from __future__ import annotations

from typing import Sequence

import keras
from keras import ops

from ctr_tf.layers.attention.folded import masked_softmax
from ctr_tf.layers.dense import SplitMLP
from ctr_tf.layers.names import Activation
from ctr_tf.layers.packing import Packing
from ctr_tf.types import Tensor


class ActivationUnit(keras.layers.Layer):
    """The local activation unit of DIN (arXiv:1706.06978, equation 3 and figure 2).

    v_U(A) = sum_j a(e_j, v_A) e_j, where a is an MLP over [q, k, q - k, q * k] and its weights are
    not normalised (softmax over the valid behaviours by option). The MLP's first layer is linear in
    q and k up to the product: q (W_q + W_d) + k (W_k - W_d) + (q * k) W_p + b, so the key part is
    projected once a user. All of it is pointwise over behaviours: valid ones alone are computed.

    Args:
        width: D, of a query and of the part of a key that it is compared with.
        extra: E, width of key attributes that the candidate has no counterpart of; they enter as
            k alone.
        units: hidden widths of the MLP.
        activation_name: of its hidden layers.
        softmax: whether weights are normalised over the valid behaviours.

    Shapes:
        keys (B, L, D + E) and mask (B, L) to `keys_state`; queries (B, N, D); values (B, L, V);
        returns (B, N, V), zeros where no behaviour is valid.

    Example:
        >>> unit = ActivationUnit(4, units=[8])
        >>> keys, mask = ops.ones((2, 3, 4)), ops.ones((2, 3), dtype="bool")
        >>> projected = unit.project_keys(keys)
        >>> unit(ops.ones((2, 5, 4)), keys, projected, mask, keys).shape
        TensorShape([2, 5, 4])
    """

    def __init__(
        self,
        width: int,
        units: Sequence[int],
        extra: int = 0,
        activation_name: Activation = "dice",
        softmax: bool = False,
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.width = width
        self.softmax = softmax
        parts = {"q": width, "k": width, "q-k": width, "q*k": width, "extra": extra}
        with keras.name_scope(self.name):
            self.mlp = SplitMLP(parts, units, activation_name, name="mlp")
        self.score = keras.layers.Dense(1, name="score")

    def project_keys(self, keys: Tensor) -> Tensor:
        """What the MLP's first layer makes of keys (..., D + E) alone: (..., units[0])."""
        rows = self.mlp.split.rows
        kernel = ops.concatenate([rows("k") - rows("q-k"), rows("extra")])
        return ops.matmul(keys, ops.cast(kernel, keys.dtype))

    def call(
        self,
        queries: Tensor,
        keys: Tensor,
        projected_keys: Tensor,
        mask: Tensor,
        values: Tensor,
        weights: Tensor | None = None,
        training: bool = False,
    ) -> Tensor:
        packing, split = Packing.of(mask), self.mlp.split
        valid = packing.weights[:, None]
        if weights is not None:
            valid = valid * packing.spread(ops.cast(weights, "float32"))
        kernel = ops.cast(split.rows("q") + split.rows("q-k"), queries.dtype)
        # The bias here, where there are fewest positions.
        of_query = split.join([ops.matmul(queries, kernel)])
        compared = packing.pack(keys)
        if keys.shape[-1] > self.width:
            compared = ops.split(compared, [self.width], axis=-1)[0]
        product = packing.spread(queries) * ops.expand_dims(compared, 1)
        products = [
            self.mlp.part("q*k", product),
            ops.expand_dims(packing.pack(projected_keys), 1),
            packing.spread(of_query),
        ]
        scores = self.score(self.mlp(products, valid, training=training, bias=False))
        if self.softmax:
            dense = ops.moveaxis(packing.unpack(scores), 1, -1)
            dense = masked_softmax(dense, mask[:, None, None])
            scores = packing.pack(ops.moveaxis(dense, -1, 1))
        return packing.sum(scores * ops.expand_dims(packing.pack(values), 1))

"""Configuration of the transformer encoder."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, NonNegativeFloat, PositiveInt, model_validator

from ctr_tf.config_base import Config, SettingError
from ctr_tf.layers.names import FeedForwardActivation


class EncoderConfig(Config):
    """Configuration of a transformer encoder.

    Args:
        width: of every position, from the input's projection to the output.
        layers: encoder blocks.
        heads: of attention, a divisor of the width.
        feed_forward: hidden width of the feed-forward part; four times `width` by default.
        activation: of the feed-forward part.
        norm: whether a block normalises before its parts or after their residuals, as in the paper.
        dropout: rate of attention weights, of what each part adds and of the embedded input.
        use_bias: whether the projections of attention have one.
        positions: position embeddings; behaviours older than that share the last one. 0 for none.
        input_norm: whether the embedded input is normalised, as in BERT4Rec's code.

    Raises:
        SettingError: heads that do not divide the width.

    Example:
        >>> EncoderConfig(width=8, heads=4).input_norm
        False
    """

    width: PositiveInt = 64
    layers: PositiveInt = 2
    heads: PositiveInt = 2
    feed_forward: PositiveInt | None = None
    activation: FeedForwardActivation = "relu"
    norm: Literal["pre", "post"] = "post"
    dropout: NonNegativeFloat = Field(0.0, lt=1)
    use_bias: bool = False
    positions: int = Field(200, ge=0)
    # The default is not written out, which keeps the runs of other models.
    input_norm: bool = Field(False, exclude_if=lambda normed: not normed)

    @model_validator(mode="after")
    def _divided(self) -> "EncoderConfig":
        if self.width % self.heads:
            raise SettingError(("heads",), f"must divide the width, {self.width}; got {self.heads}")
        return self

"""What the configurations of all architectures share."""

from __future__ import annotations

from pydantic import Field, NonNegativeFloat, PositiveInt

from ctr_tf import layers
from ctr_tf.config_base import Config, Names
from ctr_tf.layers.embedding.config import EmbeddingConfig
from ctr_tf.models.multitask import AnyHeads, BinaryConfig


class ModelConfig(Config):
    """The base of an architecture's configuration.

    Args:
        name: the registered name of the architecture.
        embedding: width, initialiser and regulariser of the tables.
        user_context: context features that the user tower reads; the exported user state then
            depends on them.
        heads: what stands between the body's representation and the tasks' outputs, by `kind`:
            binary, shared_bottom, mmoe, ple, esmm or in_batch_softmax.
    """

    name: str
    embedding: EmbeddingConfig = EmbeddingConfig()
    user_context: Names = []
    # The default is not written out: it was there before it had a name, and runs keep theirs.
    heads: AnyHeads = Field(BinaryConfig(), exclude_if=lambda heads: heads == BinaryConfig())


class InterestFields(Config):
    """What the configuration of an architecture says of the MLP behind its interests.

    Args:
        units: hidden widths.
        activation: after each layer.
        dropout: rate after each activation.

    Example:
        >>> class Example(InterestFields, ModelConfig):
        ...     name: str = "example"
        >>> Example(activation="dice").units, Example().activation
        ([200, 80], 'relu')
    """

    units: list[PositiveInt] = Field([200, 80], min_length=1)
    activation: layers.names.Activation = "relu"
    dropout: NonNegativeFloat = Field(0.0, lt=1)


class DeepFields(Config):
    """What the configuration of an architecture with an MLP says of it.

    Args:
        units: hidden widths.
        activation: after each layer.
        batch_norm: whether each layer normalises before its activation.
        dropout: rate after each activation.

    Example:
        >>> class Example(DeepFields, ModelConfig):
        ...     name: str = "example"
        >>> Example(units=[8]).units, Example().activation
        ([8], 'relu')
    """

    units: list[PositiveInt] = Field([400, 400, 400], min_length=1)
    activation: layers.names.Activation = "relu"
    batch_norm: bool = False
    dropout: NonNegativeFloat = Field(0.0, lt=1)

"""What the configurations of all architectures share."""

from __future__ import annotations

from ctr_tf.config_base import Config
from ctr_tf.layers.embedding.config import EmbeddingConfig


class ModelConfig(Config):
    """The base of an architecture's configuration.

    Args:
        name: the registered name of the architecture.
        embedding: width, initialiser and regulariser of the tables.
        user_context: context features that the user tower reads; the exported user state then
            depends on them.
    """

    name: str
    embedding: EmbeddingConfig = EmbeddingConfig()
    user_context: list[str] = []

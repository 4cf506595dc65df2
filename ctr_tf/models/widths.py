"""How wide each feature of a schema is embedded, and whether an architecture is defined on that."""

from __future__ import annotations

from collections.abc import Collection

from ctr_tf import registry
from ctr_tf.config_base import SettingError, check_known
from ctr_tf.layers.embedding.config import EmbeddingConfig
from ctr_tf.models.config import ModelConfig
from ctr_tf.models.in_batch_softmax import InBatchSoftmaxConfig, item_feature
from ctr_tf.schema import Numeric, Schema
from ctr_tf.types import Widths


def check_model(schema: Schema, config: ModelConfig) -> None:
    """Checks that a model of that configuration can be built over the schema; needs no Keras.

    Raises:
        SettingError: see `embedded_widths`, `item_feature` and the `check` of architecture and
            heads.
    """
    config.heads.check(list(schema.tasks))
    body = registry.get(config.name).body
    if isinstance(config.heads, InBatchSoftmaxConfig):
        item_feature(schema)
        if not body.factorised:
            rule = f"in_batch_softmax needs a factorised model such as two_tower, not {config.name}"
            raise SettingError(("model", "heads", "kind"), rule)
    embedding = body.embedding(config, schema)
    widths = embedded_widths(schema, embedding, body.one_width, config.user_context)
    body.check(config, widths)


def embedded_widths(
    schema: Schema,
    config: EmbeddingConfig,
    one_width: bool = False,
    user_context: Collection[str] = (),
) -> Widths:
    """The width of every feature and sequence attribute, by side.

    Args:
        schema: features and sequences.
        config: widths by table.
        one_width: whether all, numbers included, must have the default width.
        user_context: context features that count as user fields.

    Raises:
        SettingError: an unknown table, one of another width where one is needed, or a
            `user_context` that is no context feature.

    Example:
        >>> schema = Schema(features={"item_id": {"kind": "categorical"},
        ...                           "price": {"kind": "numeric"}},
        ...                 tasks={"click": {"column": "click"}})
        >>> embedded_widths(schema, EmbeddingConfig(width=8)).candidate
        {'item_id': 8, 'price': 1}
    """
    for name, table in config.tables.items():
        at = ("model", "embedding", "tables", name)
        check_known(at, "table", name, schema.encoders)
        if one_width and table.width not in (None, config.width):
            raise SettingError(
                (*at, "width"),
                f"this architecture needs one width, {config.width}, got {table.width}",
            )
    context = schema.side("context")
    for index, name in enumerate(user_context):
        check_known(("model", "user_context", index), "context feature", name, context)

    def width(feature: str) -> int:
        number = isinstance(schema.features[feature], Numeric) and not one_width
        return 1 if number else config.table(schema.encoder(feature)).width

    return Widths(
        user={name: width(name) for name in [*schema.side("user"), *user_context]},
        context={name: width(name) for name in context if name not in user_context},
        candidate={name: width(name) for name in schema.side("candidate")},
        sequences={
            name: {a: config.table(schema.encoder(a, name)).width for a in spec.attributes}
            for name, spec in schema.sequences.items()
        },
        timed=tuple(name for name, spec in schema.sequences.items() if spec.timestamps),
    )

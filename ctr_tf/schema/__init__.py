"""What a log row is: features, sides, sequences, labels and keys. Pure Python."""

from ctr_tf.schema.features import (
    MISSING_INT,
    Categorical,
    Feature,
    Keys,
    Numeric,
    Sequence,
    SequenceAttribute,
    Side,
    Task,
    Text,
    Vector,
)
from ctr_tf.schema.schema import CANDIDATE_KEYS, CANDIDATES_MASK, REQUEST_TIME, InputSpec, Schema

__all__ = [
    "CANDIDATES_MASK",
    "CANDIDATE_KEYS",
    "REQUEST_TIME",
    "Categorical",
    "Feature",
    "InputSpec",
    "Keys",
    "MISSING_INT",
    "Numeric",
    "Schema",
    "Sequence",
    "SequenceAttribute",
    "Side",
    "Task",
    "Text",
    "Vector",
]

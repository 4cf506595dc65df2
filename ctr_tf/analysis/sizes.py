"""The sizes of a synthetic call."""

from __future__ import annotations

from dataclasses import dataclass

from ctr_tf.schema import Categorical, InputSpec, Schema, Text

UNBOUNDED_VALUES = 3
DAY = 86_400
# Later than any behaviour.
NOW = 2_000_000_000


@dataclass(frozen=True)
class Sizes:
    """The sizes of a call, all of whose positions are valid.

    Args:
        users: B.
        candidates: N of each user.
        length: L, behaviours of each sequence; by default the most that the schema keeps.
        values: M of each multi-valued feature; by default the most that the schema keeps, or 3
            where it keeps all.
        words: of each text; by default the most that the schema keeps.
        session: of timed sequences, behaviours a second apart between two pauses of a day.

    Raises:
        ValueError: one is less than 1.
    """

    users: int = 1
    candidates: int = 100
    length: int | None = None
    values: int | None = None
    words: int | None = None
    session: int = 10

    def __post_init__(self):
        for name, value in vars(self).items():
            if value is not None and value < 1:
                raise ValueError(f"{name} must be at least 1, got {value}")

    def axes(self, schema: Schema, spec: InputSpec) -> dict[str, int]:
        """The axes of an input, once preprocessed, and their sizes.

        Example:
            >>> schema = Schema(features={"title": {"kind": "text", "max_tokens": 12}},
            ...                 tasks={"click": {"column": "click"}})
            >>> Sizes(candidates=7).axes(schema, schema.inputs[0])
            {'B': 1, 'N': 7, 'words': 12}
        """
        sizes = {"B": self.users, "N": self.candidates}
        feature = None
        if spec.sequence:
            sizes["L"] = self.length or schema.sequences[spec.sequence].max_length
            if spec.feature:
                feature = schema.attribute(spec.sequence, spec.feature)
        elif spec.feature:
            feature = schema.features[spec.feature]
        if isinstance(feature, Categorical) and feature.multi:
            sizes["M"] = self.values or feature.max_values or UNBOUNDED_VALUES
        found = {axis: sizes[axis] for axis in spec.axes}
        if isinstance(feature, Text):
            found["words"] = self.words or feature.max_tokens
        return found

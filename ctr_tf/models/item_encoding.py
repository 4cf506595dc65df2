"""All that depends on a candidate alone, end to end in one vector, as a table of items holds it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from keras import ops

from ctr_tf.types import CandidateSide, Fields, Tensor

_FIELD, _VIEW, _PRODUCT = "field", "view", "product"


@dataclass(frozen=True)
class ItemPart:
    """One part of an item's vector.

    Args:
        name: `field/<feature>`, `view/<view>/<feature>` or `product/<layer>`.
        width: its columns.
    """

    name: str
    width: int


class ItemEncoding:
    """The layout of items' vectors: which embedded fields and products, one behind the other.

    What a model's item tower does not read is left out: of a network that sees a candidate through
    its first layer alone, the vector is that layer's product.

    Args:
        side: candidates, embedded and multiplied.
        reads: what the item tower makes of candidates; it is called once, to see what it reads.

    Attributes:
        parts: the layout.

    Example:
        >>> side = CandidateSide(Fields({"a": ops.ones((1, 2, 3)), "b": ops.ones((1, 2, 4))}),
        ...                      ops.ones((1, 2), "bool"), {"deep": ops.zeros((1, 2, 5))})
        >>> encoding = ItemEncoding(side, lambda x: [x.fields.values["a"], x.products["deep"]])
        >>> encoding.parts
        (ItemPart(name='field/a', width=3), ItemPart(name='product/deep', width=5))
        >>> encoding.pack(side).shape
        TensorShape([1, 2, 8])
        >>> encoding.unpack(encoding.pack(side), side.mask).fields.values["a"].shape
        TensorShape([1, 2, 3])
    """

    def __init__(self, side: CandidateSide, reads: Callable[[CandidateSide], Any]):
        noted: set[str] = set()
        every = dict(_named(side))
        self._views = list(side.fields.views)
        reads(self._side(every, side.mask, noted))
        self.parts = tuple(
            ItemPart(name, part.shape[-1]) for name, part in every.items() if name in noted
        )

    @property
    def width(self) -> int:
        """Columns of a vector."""
        return sum(part.width for part in self.parts)

    def pack(self, side: CandidateSide) -> Tensor:
        """The vectors of candidates, (B, N, E)."""
        every = dict(_named(side))
        # A log without candidate features has vectors of width 0.
        none = ops.zeros((*ops.shape(side.mask), 0))
        return ops.concatenate([every[part.name] for part in self.parts] or [none], axis=-1)

    def unpack(self, vectors: Tensor, mask: Tensor) -> CandidateSide:
        """The candidates of vectors (B, N, E), 0 where the mask (B, N) is False."""
        vectors = ops.where(mask[..., None], vectors, ops.zeros((), vectors.dtype))
        found, first = {}, 0
        for part in self.parts:
            found[part.name] = vectors[..., first : first + part.width]
            first += part.width
        return self._side(found, mask, set())

    def _side(self, every: dict[str, Tensor], mask: Tensor, noted: set[str]) -> CandidateSide:
        """Parts as candidates; those that are read of them are noted."""
        groups: dict[str, dict[str, Tensor]] = {}
        for name, part in every.items():
            prefix, _, last = name.rpartition("/")
            groups.setdefault(prefix, {})[last] = part

        def own(prefix: str) -> _Noting:
            return _Noting(groups.get(prefix, {}), prefix, noted)

        views = {view: own(f"{_VIEW}/{view}") for view in self._views}
        return CandidateSide(Fields(own(_FIELD), views), mask, own(_PRODUCT))


class _Noting(dict):
    """A dict of parts, which notes those that are read."""

    def __init__(self, parts: dict[str, Tensor], prefix: str, noted: set[str]):
        super().__init__(parts)
        self._note = lambda name: noted.add(f"{prefix}/{name}")

    def __getitem__(self, name: str) -> Tensor:
        self._note(name)
        return super().__getitem__(name)

    def values(self) -> list[Tensor]:
        return [self[name] for name in self]

    def items(self) -> list[tuple[str, Tensor]]:
        return [(name, self[name]) for name in self]


def _named(side: CandidateSide) -> Iterator[tuple[str, Tensor]]:
    for name, part in side.fields.values.items():
        yield f"{_FIELD}/{name}", part
    for view, parts in side.fields.views.items():
        for name, part in parts.items():
            yield f"{_VIEW}/{view}/{name}", part
    for name, part in side.products.items():
        yield f"{_PRODUCT}/{name}", part

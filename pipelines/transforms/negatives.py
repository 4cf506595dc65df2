"""Sampled negatives for logs that hold positives alone."""

from __future__ import annotations

import bisect
import hashlib
import itertools
import random
from collections.abc import Collection

from ctr_tf.data.config import Negatives

TRIES = 30
"""Draws that meet an excluded item before all eligible ones are listed."""


class NegativeSampler:
    """Draws items of the catalogue that a request's user did not meet.

    Uniform over the catalogue, or by `count ** popularity` of an item's training positives; then
    items without any are never drawn. Draws are without replacement within a request and depend
    on the seed and the request's key alone, not on the runner or the number of workers. Nothing
    is known here of the user's future, so its items stay eligible.

    Args:
        config: the configuration.
        items: the catalogue's ids, in order.
        counts: training positives by id.
        seed: of the random numbers.

    Example:
        >>> sampler = NegativeSampler(Negatives(), [b"a", b"b", b"c"], {}, seed=1)
        >>> sorted(sampler.sample(b"request", 5, {b"b"}))
        [b'a', b'c']
    """

    def __init__(self, config: Negatives, items: list[bytes], counts: dict[bytes, int], seed: int):
        self._seed = b"%d" % seed
        if config.popularity:
            self._items = [item for item in items if counts.get(item)]
            weights = [counts[item] ** config.popularity for item in self._items]
        else:
            self._items = items
            weights = [1.0] * len(items)
        self._weights = weights
        self._cumulative = list(itertools.accumulate(weights))

    @property
    def empty(self) -> bool:
        """Whether there is nothing to draw from, whatever is excluded."""
        return not self._items

    def sample(self, request: bytes, count: int, *excluded: Collection[bytes]) -> list[bytes]:
        """Draws distinct items.

        Args:
            request: the request's key.
            count: how many.
            excluded: items that must not be drawn, in several collections, so that none is
                copied.

        Returns:
            `count` ids, fewer where fewer are eligible.
        """
        digest = hashlib.blake2b(self._seed + b"\0" + request, digest_size=16).digest()
        rng = random.Random(int.from_bytes(digest, "big"))
        drawn: dict[bytes, None] = {}
        while len(drawn) < count:
            item = self._draw(rng, (*excluded, drawn))
            if item is None:
                break
            drawn[item] = None
        return list(drawn)

    def _draw(self, rng: random.Random, excluded: tuple[Collection[bytes], ...]) -> bytes | None:
        total = self._cumulative[-1] if self._cumulative else 0.0
        for _ in range(TRIES if total else 0):
            place = bisect.bisect_right(self._cumulative, rng.random() * total)
            item = self._items[min(place, len(self._items) - 1)]
            if not any(item in found for found in excluded):
                return item
        eligible = [
            index
            for index, item in enumerate(self._items)
            if not any(item in found for found in excluded)
        ]
        if not eligible:
            return None
        weights = [self._weights[index] for index in eligible]
        return self._items[rng.choices(eligible, weights)[0]]

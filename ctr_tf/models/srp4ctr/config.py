"""Configuration of what an encoder is pre-trained to tell."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, NonNegativeFloat, PositiveInt

from ctr_tf.config_base import Config, SettingError
from ctr_tf.layers.sequence.config import EncoderConfig
from ctr_tf.models.srp4ctr.attributes import Attributes
from ctr_tf.schema import CANDIDATES_MASK

MASKED = MASKED_ITEMS, MASKED_BEHAVIOURS = ("masked_items", "masked_behaviours")
"""Features (B, L): behaviours whose item attributes, or whose other ones, are masked."""

Tasks = dict[str, tuple[str, str | None]]
"""Of each task, the feature whose True positions count, and the attribute that has to be known
there, or None."""


class MaskFields(Config):
    """What of a window of behaviours is masked.

    Args:
        item_rate: share of a window's behaviours whose item attributes are masked, one at least.
        last_share: of windows in which the last behaviour alone is masked, in both ways, as where
            the next item is asked for.
    """

    item_rate: float = Field(0.2, gt=0, le=1)
    last_share: float = Field(0.1, ge=0, le=1)

    @property
    def rates(self) -> tuple[float, float]:
        """Shares whose item attributes, and whose other ones, are masked."""
        return self.item_rate, 0.0


class ClozeFields(MaskFields):
    """What of a window is masked, and the softmax by which masked values are told.

    Args:
        item_rate, last_share: see `MaskFields`.
        sample_above: values of an attribute above which its softmax is over a sample.
        samples: values in it.
    """

    sample_above: PositiveInt = 50_000
    samples: PositiveInt = 1024


class FGBertConfig(ClozeFields):
    """FG-BERT: masked item attributes, masked behaviour attributes (Han et al. 2024, section 2.1).

    With `model.attributes: [item_id]` it is BERT4Rec (Sun et al. 2019, arXiv:1904.06690).

    Args:
        item_rate, last_share, sample_above, samples: see `ClozeFields`.
        behaviour_rate: share of behaviours whose other attributes are masked, one at least.
    """

    name: Literal["fg_bert"] = "fg_bert"
    behaviour_rate: float = Field(0.2, gt=0, le=1)

    @property
    def rates(self) -> tuple[float, float]:
        return self.item_rate, self.behaviour_rate

    def tasks(self, attributes: Attributes) -> Tasks:
        """What is learned: every attribute that the encoder reads."""
        return {
            name: (MASKED_ITEMS if name in attributes.items else MASKED_BEHAVIOURS, name)
            for name in attributes.read
        }


class ElectraConfig(ClozeFields):
    """ELECTRA: replaced items are told from real ones (Clark et al. 2020, arXiv:2003.10555).

    Args:
        item_rate, last_share, sample_above, samples: see `ClozeFields`; where the softmax is over
            a sample, what takes the items' places is drawn from it, too.
        generator_width: of the generator's encoder, a multiple of its heads, which are the
            encoder's; half of the encoder's width by default, as the paper's section 3.2 advises.
        discriminator_weight: of the discriminator's loss beside the generator's.
    """

    name: Literal["electra"] = "electra"
    generator_width: PositiveInt | None = None
    discriminator_weight: NonNegativeFloat = 50.0

    def tasks(self, attributes: Attributes) -> Tasks:
        """What is learned."""
        return {
            "generator": (MASKED_ITEMS, attributes.items[0]),
            "discriminator": (CANDIDATES_MASK, None),
        }

    def generator(self, encoder: EncoderConfig) -> EncoderConfig:
        """The generator's encoder: as many blocks and heads, in proportion narrower.

        Raises:
            SettingError: heads that do not divide its width.

        Example:
            >>> found = ElectraConfig().generator(EncoderConfig(width=64, feed_forward=128))
            >>> found.width, found.feed_forward
            (32, 64)
        """
        heads = encoder.heads
        width = self.generator_width or heads * max(1, encoder.width // (2 * heads))
        if width % heads:
            raise SettingError(
                ("objective", "generator_width"),
                f"must be a multiple of the encoder's heads, {heads}; got {width}",
            )
        inner = encoder.feed_forward
        inner = inner and max(1, inner * width // encoder.width)
        return encoder.model_copy(update={"width": width, "feed_forward": inner})


class S3RecConfig(MaskFields):
    """S3-Rec: attributes, masked items, their attributes, segments (Zhou et al. 2020).

    arXiv:2008.07873, section 4; the weights are those of the released code.

    Args:
        item_rate, last_share: see `MaskFields`.
        aap_weight: of the attributes of items that are not masked.
        mip_weight: of masked items.
        map_weight: of the attributes of masked items.
        sp_weight: of segments.
    """

    name: Literal["s3_rec"] = "s3_rec"
    aap_weight: NonNegativeFloat = 0.2
    mip_weight: NonNegativeFloat = 1.0
    map_weight: NonNegativeFloat = 1.0
    sp_weight: NonNegativeFloat = 0.5

    def tasks(self, attributes: Attributes) -> Tasks:
        """What is learned."""
        return dict.fromkeys(self.weights, (CANDIDATES_MASK, None))

    @property
    def weights(self) -> dict[str, float]:
        """Of each task."""
        found = (self.aap_weight, self.mip_weight, self.map_weight, self.sp_weight)
        return dict(zip(("aap", "mip", "map", "sp"), found))


AnyObjective = Annotated[FGBertConfig | ElectraConfig | S3RecConfig, Field(discriminator="name")]

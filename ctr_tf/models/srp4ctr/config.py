"""Configuration of what an encoder is pre-trained to tell."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, PositiveInt

from ctr_tf.config_base import Config


class FGBertConfig(Config):
    """FG-BERT: masked item attributes, masked behaviour attributes (Han et al. 2024, section 2.1).

    With `model.attributes: [item_id]` it is BERT4Rec (Sun et al. 2019, arXiv:1904.06690).

    Args:
        item_rate: share of a window's behaviours whose item attributes are masked, one at least.
        behaviour_rate: share of those whose other attributes are masked, one at least.
        last_share: of windows in which the last behaviour alone is masked, in both ways, as where
            the next item is asked for.
        sample_above: values of an attribute above which its softmax is over a sample.
        samples: values in it.
    """

    name: Literal["fg_bert"] = "fg_bert"
    item_rate: float = Field(0.2, gt=0, le=1)
    behaviour_rate: float = Field(0.2, gt=0, le=1)
    last_share: float = Field(0.1, ge=0, le=1)
    sample_above: PositiveInt = 50_000
    samples: PositiveInt = 1024

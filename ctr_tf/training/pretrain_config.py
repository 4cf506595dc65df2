"""Configuration of pre-training."""

from __future__ import annotations

from pydantic import PositiveInt

from ctr_tf.config_base import Config
from ctr_tf.models.srp4ctr.config import FGBertConfig
from ctr_tf.training.config import TrainConfig

RANKING = ("ndcg", "hr", "mrr")
"""What validation measures of the next item; the first is what the best checkpoint goes by."""


class PretrainConfig(Config):
    """Pre-training of a model's encoder on the histories of the training period.

    Args:
        objective: what is learned, by `name`.
        batch_size: windows of histories a batch.
        cutoff: k of HR@k and NDCG@k, on each user's first validation request.
        train: the run, as of an experiment; early stopping follows `ndcg`, `hr` or `mrr`.
    """

    objective: FGBertConfig = FGBertConfig()
    batch_size: PositiveInt = 256
    cutoff: PositiveInt = 10
    train: TrainConfig = TrainConfig()

"""Configuration of pre-training."""

from __future__ import annotations

from pydantic import PositiveInt

from ctr_tf.config_base import Config, SettingError
from ctr_tf.models.config import ModelConfig
from ctr_tf.models.srp4ctr.attributes import pretrained_attributes, told_attributes
from ctr_tf.models.srp4ctr.config import AnyObjective, ElectraConfig, FGBertConfig, S3RecConfig
from ctr_tf.models.srp4ctr.transfer import SRP4CTRConfig
from ctr_tf.schema import Schema
from ctr_tf.training.config import RANKING_METRICS, TrainConfig


class PretrainConfig(Config):
    """Pre-training of a model's encoder on the histories of the training period.

    Args:
        objective: what is learned, by `name`.
        batch_size: windows of histories a batch.
        cutoff: k of HR@k and NDCG@k, on each user's first validation request: of its first
            candidate, with `positive` of the sequence its first positive one.
        train: the run, as of an experiment; early stopping follows `ndcg`, `hr` or `mrr`.
    """

    objective: AnyObjective = FGBertConfig()
    batch_size: PositiveInt = 256
    cutoff: PositiveInt = 10
    train: TrainConfig = TrainConfig()

    def check(self, schema: Schema, model: ModelConfig) -> None:
        """Checks what depends on schema and model.

        Raises:
            SettingError: a model without an encoder to pre-train, a generator's width that its
                heads do not divide, or see `pretrained_attributes`, for S3-Rec `told_attributes`,
                and `TrainConfig.check`.
        """
        if not isinstance(model, SRP4CTRConfig):
            raise SettingError(
                ("pretrain",), f"{model.name} has no encoder to pre-train; srp4ctr has"
            )
        attributes = pretrained_attributes(schema, model)
        if isinstance(self.objective, S3RecConfig):
            told_attributes(schema, model)
        try:
            if isinstance(self.objective, ElectraConfig):
                self.objective.generator(model.encoder)
            self.train.check(list(self.objective.tasks(attributes)), RANKING_METRICS)
        except SettingError as error:
            raise SettingError(("pretrain", *error.at), error.rule) from None

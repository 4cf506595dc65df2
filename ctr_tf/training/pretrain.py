"""Pre-training of an encoder on histories, and its hand-over to a model."""

from __future__ import annotations

from pathlib import Path

import tensorflow as tf

from ctr_tf.data.input import Input
from ctr_tf.layers.embedding.tables import CHUNK_ROWS
from ctr_tf.models.model import CTRModel
from ctr_tf.models.srp4ctr.attributes import attribute_values, pretrained_attributes
from ctr_tf.models.srp4ctr.electra import Electra
from ctr_tf.models.srp4ctr.fg_bert import FGBert
from ctr_tf.models.srp4ctr.history_model import HistoryModel
from ctr_tf.models.srp4ctr.s3_rec import S3Rec
from ctr_tf.models.srp4ctr.transfer import SRP4CTRConfig
from ctr_tf.schema import Schema
from ctr_tf.training.config import RANKING_METRICS
from ctr_tf.training.histories import MaskedHistories
from ctr_tf.training.next_item import NextItemValidator
from ctr_tf.training.pretrain_config import PretrainConfig
from ctr_tf.training.result import TrainResult
from ctr_tf.training.train import train

MODELS: dict[str, type[HistoryModel]] = {"fg_bert": FGBert, "electra": Electra, "s3_rec": S3Rec}
"""What is pre-trained, by the objective's name."""


def pretraining_model(
    schema: Schema, model: SRP4CTRConfig, config: PretrainConfig, rows: dict[str, int]
) -> HistoryModel:
    """The model that is pre-trained, with fresh weights.

    Args:
        schema: of the log.
        model: whose encoder it has.
        config: of pre-training.
        rows: rows of each encoder's embedding table.
    """
    return MODELS[config.objective.name](schema, model, config.objective, rows)


def pretrain(
    data: Input,
    model: SRP4CTRConfig,
    config: PretrainConfig,
    folder: Path,
    progress: bool = True,
    strategy: tf.distribute.Strategy | None = None,
) -> TrainResult:
    """Pre-trains, or goes on where an earlier call with the same folder was cut short.

    Args:
        data: over the split `histories`; validation reads `next`.
        model: whose encoder is pre-trained.
        config: of the run.
        folder: where it is saved.
        progress: whether a progress bar is shown.
        strategy: see `train`.

    Raises:
        see `train`.
    """
    schema, rows, objective = data.schema, data.preprocessor.rows, config.objective
    found = pretrained_attributes(schema, model)
    tasks = objective.tasks(found)
    known = [attribute for _, attribute in tasks.values() if attribute]
    histories = MaskedHistories(
        data,
        found.sequence,
        objective.rates,
        objective.last_share,
        tasks,
        attribute_values(schema, found.sequence, known, rows),
    )
    return train(
        lambda: pretraining_model(schema, model, config, rows),
        histories,
        config.train,
        folder,
        progress,
        strategy=strategy,
        validator=lambda own: NextItemValidator(own, data, config.cutoff),
        metrics=RANKING_METRICS,
    )


def take_over(model: CTRModel, source: HistoryModel) -> None:
    """Copies the encoder, and the tables of what it reads, from a pre-trained model.

    Args:
        model: SRP4CTR of the same encoder and vocabularies.
        source: what was pre-trained.
    """
    for weight, value in zip(model.body.encoder.weights, source.encoder.weights, strict=True):
        weight.assign(value)
    tables, others = model.embedder.tables, source.embedder.tables
    for name in {source.schema.encoder(own, source.sequence) for own in source.attributes}:
        count = others.specs[name].rows
        for first in range(0, count, CHUNK_ROWS):
            rows = min(CHUNK_ROWS, count - first)
            tables.write(name, first, others.read(name, first, rows))

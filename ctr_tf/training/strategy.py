"""Distribution strategies, and how batches reach their replicas."""

from __future__ import annotations

from collections.abc import Iterator

import tensorflow as tf

from ctr_tf.data.input import Input


def make_strategy(name: str) -> tf.distribute.Strategy:
    """The strategy of that name in the training configuration.

    `multi_worker` reads TF_CONFIG and has to be made before TensorFlow runs its first operation:
    in a program, make it first, then the input, then call `train`.

    Args:
        name: `one`, `mirrored` or `multi_worker`.

    Example:
        >>> make_strategy("one").num_replicas_in_sync
        1
    """
    if name == "one":
        return tf.distribute.get_strategy()
    if name == "mirrored":
        return tf.distribute.MirroredStrategy()
    if name == "multi_worker":
        return tf.distribute.MultiWorkerMirroredStrategy()
    raise ValueError(f"strategy must be one, mirrored or multi_worker, not {name!r}")


def is_chief(strategy: tf.distribute.Strategy) -> bool:
    """Whether this process writes the run's files."""
    resolver = strategy.cluster_resolver
    if resolver is None or not resolver.task_type:
        return True
    return resolver.task_type == "chief" or (
        resolver.task_type == "worker"
        and resolver.task_id == 0
        and "chief" not in resolver.cluster_spec().jobs
    )


def training_batches(
    data: Input, strategy: tf.distribute.Strategy, epoch: int, skip: int
) -> Iterator:
    """An iterator over the rest of an epoch: each step takes every replica's share of a batch.

    Args:
        data: the training input.
        strategy: under which the batches are consumed.
        epoch: from 0.
        skip: batches already trained on.
    """
    replicas = strategy.num_replicas_in_sync

    def pipeline(context: tf.distribute.InputContext) -> tf.data.Dataset:
        local = replicas // context.num_input_pipelines
        first = context.input_pipeline_id * local
        shares = [
            data.training(epoch, skip=skip, replica=(first + i, replicas)) for i in range(local)
        ]
        dataset = shares[0]
        if local > 1:
            turns = tf.data.Dataset.range(local).repeat()
            dataset = tf.data.Dataset.choose_from_datasets(shares, turns)
        dataset = dataset.map(_without_ids)
        if replicas > 1:
            # Each replica takes a known number of batches, so the strategy need not agree over
            # all workers, at each step, on whether there is another one.
            dataset = dataset.apply(
                tf.data.experimental.assert_cardinality(tf.data.INFINITE_CARDINALITY)
            )
        return dataset

    return iter(strategy.distribute_datasets_from_function(pipeline))


def _without_ids(batch: dict) -> dict:
    return {key: value for key, value in batch.items() if key != "ids"}

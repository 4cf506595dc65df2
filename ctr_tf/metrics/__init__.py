"""Exact offline metrics on NumPy arrays; an undefined metric has a reason, never a number."""

from ctr_tf.metrics.auc import PairSums, RankedScores, auc
from ctr_tf.metrics.bootstrap import (
    auc_with_interval,
    gauc_with_interval,
    resampling_units,
    with_interval,
)
from ctr_tf.metrics.buckets import FREQUENCY_BUCKETS, Buckets, frequency_groups, long_tail
from ctr_tf.metrics.gauc import gauc
from ctr_tf.metrics.histogram_auc import DEFAULT_BINS, HistogramAuc
from ctr_tf.metrics.precision import precision_at_n
from ctr_tf.metrics.probability import calibration_ratio, log_loss, normalised_entropy
from ctr_tf.metrics.ranking import next_item
from ctr_tf.metrics.value import MetricValue

__all__ = [
    "DEFAULT_BINS",
    "FREQUENCY_BUCKETS",
    "Buckets",
    "HistogramAuc",
    "MetricValue",
    "PairSums",
    "RankedScores",
    "auc",
    "auc_with_interval",
    "calibration_ratio",
    "frequency_groups",
    "gauc",
    "gauc_with_interval",
    "log_loss",
    "long_tail",
    "next_item",
    "normalised_entropy",
    "precision_at_n",
    "resampling_units",
    "with_interval",
]

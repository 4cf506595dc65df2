"""Evaluation of predictions: reading them, the report, its table and its page."""

from ctr_tf.evaluation.config import EvaluationConfig
from ctr_tf.evaluation.curves import Curves, read_curves
from ctr_tf.evaluation.evaluate import Report, evaluate
from ctr_tf.evaluation.page import write_report
from ctr_tf.evaluation.predictions import Predictions, write_shard
from ctr_tf.evaluation.table import print_report

__all__ = [
    "Curves",
    "EvaluationConfig",
    "Predictions",
    "Report",
    "evaluate",
    "print_report",
    "read_curves",
    "write_report",
    "write_shard",
]

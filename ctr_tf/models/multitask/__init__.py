"""Multi-task networks between any body and its named outputs: `model.heads`, by `kind`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

from pydantic import Field

from ctr_tf.models.in_batch_softmax import InBatchSoftmaxConfig
from ctr_tf.models.multitask.esmm import ESMM, ESMMConfig
from ctr_tf.models.multitask.mmoe import MMoE, MMoEConfig
from ctr_tf.models.multitask.network import BinaryConfig, TaskNetwork
from ctr_tf.models.multitask.ple import PLE, PLEConfig
from ctr_tf.models.multitask.shared_bottom import SharedBottom, SharedBottomConfig

AnyHeads = Annotated[
    BinaryConfig | SharedBottomConfig | MMoEConfig | PLEConfig | ESMMConfig | InBatchSoftmaxConfig,
    Field(discriminator="kind"),
]
_NETWORKS = {"shared_bottom": SharedBottom, "mmoe": MMoE, "ple": PLE, "esmm": ESMM}


def task_network(config: AnyHeads, tasks: Sequence[str]) -> TaskNetwork | None:
    """The network of that configuration; None for heads straight on the representation.

    Example:
        >>> task_network(BinaryConfig(), ["click"]) is None
        True
    """
    network = _NETWORKS.get(config.kind)
    return network and network(config, tasks)

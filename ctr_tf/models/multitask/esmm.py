"""Entire-space multi-task model."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from ctr_tf.config_base import SettingError, check_known
from ctr_tf.models.multitask.network import TaskNetwork, TaskNetworkConfig
from ctr_tf.types import Tensor


class ESMMConfig(TaskNetworkConfig):
    """Configuration of ESMM.

    Args:
        click: the task that comes first.
        conversion: the task that only what was clicked can have.
    """

    kind: Literal["esmm"] = "esmm"
    click: str = "click"
    conversion: str = "buy"

    @property
    def rate(self) -> str:
        """The name of the conversion rate of clicks among the outputs."""
        return f"{self.conversion}_given_{self.click}"

    def check(self, tasks: Sequence[str]) -> None:
        for key in ("click", "conversion"):
            check_known(("model", "heads", key), "task", getattr(self, key), tasks)
        if self.click == self.conversion:
            raise SettingError(
                ("model", "heads", "conversion"), f"is the task {self.click!r} of click too"
            )
        if self.rate in tasks:
            raise SettingError(
                ("schema", "tasks", self.rate), "esmm has an output of that name; rename the task"
            )


class ESMM(TaskNetwork):
    """Entire-space multi-task model: the conversion rate of clicks, learned over impressions.

    Ma et al. 2018, arXiv:1804.07931, section 2.3, equation 1: pCTCVR = pCTR pCVR, with a
    tower each for pCTR and pCVR, and the loss of clicks and of clicks with conversion over all
    impressions, so that pCVR is not fitted on clicked ones alone. The output of the conversion task
    is the logit of pCTCVR, from the towers' logits a and b: -log(e^-a + e^-b + e^(-a-b)), exact for
    any of them. The output `<conversion>_given_<click>` is b, pCVR's. Other tasks have a plain
    tower.

    A conversion counts where there is a click. Its label has to be there for every impression, 0
    where there was no click: where it is masked, an impression is left out of that task's loss.

    Args:
        config: see `ESMMConfig`.
        tasks: their names.

    Example:
        >>> ESMM(ESMMConfig(), ["click", "buy"]).further
        ('buy_given_click',)
    """

    @property
    def further(self) -> tuple[str, ...]:
        return (self.config.rate,)

    def outputs(self, logits: dict[str, Tensor]) -> dict[str, Tensor]:
        from keras import ops

        click, given = logits[self.config.click], logits[self.config.conversion]
        against = ops.stack([-click, -given, -click - given])
        both = -ops.logsumexp(against, axis=0)
        return {**logits, self.config.conversion: both, self.config.rate: given}

    def labels(self, labels: dict[str, Tensor]) -> dict[str, Tensor]:
        both = labels[self.config.click] * labels[self.config.conversion]
        return {**labels, self.config.conversion: both}

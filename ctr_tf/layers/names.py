"""Names that configurations use; nothing here imports Keras."""

from typing import Literal

Activation = Literal["relu", "leaky_relu", "dice", "prelu", "sigmoid", "tanh", "linear"]
Combiner = Literal["mean", "sum", "sqrtn"]
FeedForwardActivation = Literal["relu", "gelu", "leaky_relu", "silu", "tanh", "linear"]
Recurrence = Literal["gru", "aigru", "agru", "augru", "augru_keep"]

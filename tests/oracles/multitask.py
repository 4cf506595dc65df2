"""Oracles of multi-task models: shared bottom, MMoE, PLE, ESMM and their losses.

`x` are the concatenated features, (B, I). A tower ends in one linear unit, its logit. Experts are
chains of layers that all have the activation. A gate is (kernel (in, experts), bias or None); the
papers' gates are linear without bias, softmax(W_g x).
"""

from collections.abc import Sequence

import numpy as np

from .blocks import Activation, Array, Layer, dense, mlp, mlp_parameters, sigmoid, softmax_masked

Network = Sequence[Layer]
Gate = tuple[Array, Array | None]
TaskExperts = Sequence[Sequence[Network]]
Level = tuple[TaskExperts, Sequence[Network], Sequence[Gate], Gate | None]


def towers_forward(
    representations: Sequence[Array], towers: Sequence[Network], activation: Activation = "relu"
) -> Array:
    """Logits (B, K) of task towers, one representation (B, E) per task.

    Args:
        representations: Of every task.
        towers: Of every task, out = 1 and no activation last.
        activation: Of the hidden layers.
    """
    logits = [
        mlp(h, tower, activation, final_linear=True)[:, 0]
        for h, tower in zip(representations, towers, strict=True)
    ]
    return np.stack(logits, axis=1)


def shared_bottom_forward(
    x: Array, bottom: Network, towers: Sequence[Network], activation: Activation = "relu"
) -> Array:
    """Logits (B, K) of the shared-bottom model, y_k = h^k(f(x)) (Ma et al. 2018, equation 1).

    Args:
        x: (B, I).
        bottom: f, all layers activated.
        towers: As in `towers_forward`.
        activation: Of the bottom and of the towers' hidden layers.
    """
    shared = mlp(x, bottom, activation, final_linear=False)
    return towers_forward([shared] * len(towers), towers, activation)


def mixture(x: Array, outputs: Sequence[Array], gate: Gate) -> Array:
    """Mixture of experts, sum_i softmax(x W_g)_i f_i, (B, E).

    Args:
        x: Input of the gate, (B, I).
        outputs: f_i of every expert, (B, E).
        gate: (kernel (I, experts), bias or None).
    """
    logits = dense(x, *gate)
    mixed = np.zeros_like(outputs[0])
    for row in range(len(mixed)):
        shares = softmax_masked(logits[row], [True] * len(outputs))
        for share, output in zip(shares, outputs, strict=True):
            mixed[row] += share * output[row]
    return mixed


def mmoe_forward(
    x: Array,
    experts: Sequence[Network],
    gates: Sequence[Gate],
    towers: Sequence[Network],
    activation: Activation = "relu",
) -> Array:
    """Logits (B, K) of MMoE (Ma et al. 2018, KDD, section 4.2).

    y_k = h^k(f^k(x)) with f^k(x) = sum_i g^k(x)_i f_i(x) and g^k(x) = softmax(W_gk x).

    Args:
        x: (B, I).
        experts: f_i.
        gates: g^k of every task.
        towers: h^k of every task.
        activation: Of the experts and of the towers' hidden layers.
    """
    outputs = [mlp(x, expert, activation, final_linear=False) for expert in experts]
    return towers_forward([mixture(x, outputs, gate) for gate in gates], towers, activation)


def cgc_layer(
    task_inputs: Sequence[Array],
    shared_input: Array,
    task_experts: TaskExperts,
    shared_experts: Sequence[Network],
    task_gates: Sequence[Gate],
    shared_gate: Gate | None,
    activation: Activation = "relu",
) -> tuple[list[Array], Array | None]:
    """Customised gate control, one extraction layer (Tang et al. 2020, sections 4.1 and 4.2).

    The gate of task k mixes its own experts and then the shared ones (equation 3); the shared
    gate mixes all experts. Choice: the paper gives the shared gate no order, here it is the
    experts of task 1, ..., task K and then the shared ones.

    Args:
        task_inputs: Input (B, I) of every task's experts and gate; x for the first layer.
        shared_input: Input (B, I) of the shared experts and gate; x for the first layer.
        task_experts: For every task its experts, possibly none.
        shared_experts: Possibly none.
        task_gates: Of every task.
        shared_gate: None for the top layer, which has no shared output.
        activation: Of the experts.

    Returns:
        Representations (B, E) of every task, and of the shared part or None.
    """
    shared = [
        mlp(shared_input, expert, activation, final_linear=False) for expert in shared_experts
    ]
    own = [
        [mlp(x, expert, activation, final_linear=False) for expert in experts]
        for x, experts in zip(task_inputs, task_experts, strict=True)
    ]
    outputs = [
        mixture(x, experts + shared, gate)
        for x, experts, gate in zip(task_inputs, own, task_gates, strict=True)
    ]
    if shared_gate is None:
        return outputs, None
    everything = [output for experts in own for output in experts] + shared
    return outputs, mixture(shared_input, everything, shared_gate)


def ple_forward(
    x: Array, levels: Sequence[Level], towers: Sequence[Network], activation: Activation = "relu"
) -> Array:
    """Logits (B, K) of PLE (Tang et al. 2020, RecSys, section 4.2); one level is CGC.

    g^{k,j}(x) = w^{k,j}(g^{k,j-1}(x)) S^{k,j}(x): experts and gates of a level read the mixtures
    of the level below, those of task k that of task k and the shared ones the shared mixture.

    Args:
        x: (B, I).
        levels: (task_experts, shared_experts, task_gates, shared_gate), as in `cgc_layer`; the
            shared gate of the last level is None.
        towers: Of every task.
        activation: Of the experts and of the towers' hidden layers.
    """
    tasks, shared = [np.asarray(x, np.float64)] * len(towers), np.asarray(x, np.float64)
    for level in levels:
        tasks, shared = cgc_layer(tasks, shared, *level, activation)
    return towers_forward(tasks, towers, activation)


def esmm_forward(
    x: Array, ctr_tower: Network, cvr_tower: Network, activation: Activation = "relu"
) -> dict[str, Array]:
    """Probabilities (B,) of ESMM (Ma et al. 2018, arXiv:1804.07931, equation 1).

    pCTCVR = pCTR pCVR; both towers read the concatenation of the same embeddings.

    Args:
        x: (B, I).
        ctr_tower, cvr_tower: Out = 1 and no activation last.
        activation: Of the hidden layers.

    Returns:
        "ctr", "cvr" and "ctcvr".
    """
    ctr, cvr = sigmoid(towers_forward([x, x], [ctr_tower, cvr_tower], activation)).T
    return {"ctr": ctr, "cvr": cvr, "ctcvr": ctr * cvr}


def bce(labels: Array, logits: Array) -> Array:
    """Binary cross-entropy of every entry, log(1 + e^s) - y s for logits s."""
    logits = np.asarray(logits, np.float64)
    return np.logaddexp(0.0, logits) - np.asarray(labels, np.float64) * logits


def esmm_loss(
    click: Array, conversion: Array, ctr_logits: Array, cvr_logits: Array
) -> tuple[Array, Array]:
    """Losses (B,) of every impression, l(y, pCTR) and l(y & z, pCTCVR) (section 2.3).

    The paper's loss is the sum of both over all impressions; most libraries take the mean. The
    second is exact for any logits a and b: 1 - sigmoid(a) sigmoid(b) is sigmoid(a) sigmoid(b)
    (e^-a + e^-b + e^(-a-b)).

    Args:
        click: y, (B,).
        conversion: z, (B,); read where y = 1 alone.
        ctr_logits, cvr_logits: a and b, (B,).
    """
    click = np.asarray(click, np.float64)
    a, b = np.asarray(ctr_logits, np.float64), np.asarray(cvr_logits, np.float64)
    both = np.array([float(y == 1 and z == 1) for y, z in zip(click, conversion, strict=True)])
    log_positive = -np.logaddexp(0.0, -a) - np.logaddexp(0.0, -b)
    log_negative = log_positive + np.logaddexp(np.logaddexp(-a, -b), -a - b)
    return bce(click, a), -(both * log_positive + (1.0 - both) * log_negative)


def multitask_loss(
    labels: Array,
    logits: Array,
    mask: Array | None = None,
    weights: Array | None = None,
    task_weights: Sequence[float] | None = None,
    reduction: str = "weights",
) -> tuple[float, Array]:
    """Masked and weighted binary cross-entropy (Tang et al. 2020, section 4.3).

    L = sum_k omega_k L_k with L_k = sum_i delta_ki w_i l_ki / sum_i delta_ki w_i, where delta is
    the task's sample space. Sample weights w are not in the paper. Choice: a task without samples
    has loss 0.

    Args:
        labels: (B, K); masked entries are not read and may be NaN.
        logits: (B, K).
        mask: delta, (B, K), or None for all.
        weights: w, (B,) or (B, K), or None for 1.
        task_weights: omega, (K,), or None for 1.
        reduction: What L_k is divided by: "weights", the sum of delta w; "count", the sum of
            delta; "batch", B; "sum", 1.

    Returns:
        L and the losses L_k, (K,).

    Raises:
        ValueError: `reduction` is an unknown name.
    """
    batch, tasks = np.shape(labels)
    mask = np.ones((batch, tasks)) if mask is None else np.asarray(mask)
    weights = np.ones((batch, tasks)) if weights is None else np.asarray(weights, np.float64)
    if weights.ndim == 1:
        weights = np.tile(weights[:, None], (1, tasks))
    losses = np.zeros(tasks)
    for k in range(tasks):
        rows = [i for i in range(batch) if mask[i, k]]
        total = sum(weights[i, k] * bce(labels[i, k], logits[i, k]) for i in rows)
        divisors = {
            "weights": sum(weights[i, k] for i in rows),
            "count": len(rows),
            "batch": batch,
            "sum": 1,
        }
        if reduction not in divisors:
            raise ValueError(f"reduction must be one of {list(divisors)}; got {reduction!r}")
        losses[k] = total / divisors[reduction] if divisors[reduction] else 0.0
    omega = np.ones(tasks) if task_weights is None else np.asarray(task_weights, np.float64)
    return float(np.sum(omega * losses)), losses


def towers_parameters(inputs: int, tasks: int, hidden: Sequence[int]) -> int:
    """Weights of K towers of the same shape; ESMM is two of them over its features.

    Example:
        >>> towers_parameters(4, 2, [3])
        38
    """
    return tasks * mlp_parameters([inputs, *hidden, 1])


def shared_bottom_parameters(
    inputs: int, bottom: Sequence[int], tasks: int, tower: Sequence[int]
) -> int:
    """Weights of the bottom, of widths `bottom`, and of K towers of hidden widths `tower`.

    Example:
        >>> shared_bottom_parameters(5, [4], 2, [3])
        62
    """
    return mlp_parameters([inputs, *bottom]) + towers_parameters(bottom[-1], tasks, tower)


def mmoe_parameters(
    inputs: int, experts: int, expert: Sequence[int], tasks: int, tower: Sequence[int]
) -> int:
    """n experts, K gates of I n without bias, and K towers.

    Example:
        >>> mmoe_parameters(5, 3, [4], 2, [3])
        140
    """
    gates = tasks * inputs * experts
    networks = experts * mlp_parameters([inputs, *expert])
    return networks + gates + towers_parameters(expert[-1], tasks, tower)


def ple_parameters(
    inputs: int,
    levels: int,
    own: int,
    shared: int,
    expert: Sequence[int],
    tasks: int,
    tower: Sequence[int],
) -> int:
    """PLE with the same experts at every level and gates without bias.

    A level has K own + shared experts, K gates over own + shared and, below the top, one over all.

    Args:
        inputs: I; levels above the first take the width of an expert's output.
        levels: Number of levels, 1 for CGC.
        own: Experts of every task.
        shared: Shared experts.
        expert: Widths of an expert.
        tasks: K.
        tower: Hidden widths of a tower.

    Example:
        >>> ple_parameters(5, 1, 1, 2, [4], 2, [3]), ple_parameters(5, 2, 1, 2, [4], 2, [3])
        (164, 288)
    """
    total, width, everything = 0, inputs, tasks * own + shared
    for level in range(levels):
        total += everything * mlp_parameters([width, *expert]) + tasks * width * (own + shared)
        if level + 1 < levels:
            total += width * everything
        width = expert[-1]
    return total + towers_parameters(width, tasks, tower)

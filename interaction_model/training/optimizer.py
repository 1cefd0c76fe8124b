"""AdamW over three kinds of parameters: matrices, embeddings, and vectors."""

from __future__ import annotations

import torch
from torch import nn

from microturn.interaction_model.training.objective import Trainee
from microturn.interaction_model.training.schedule import Schedule
from microturn.interaction_model.training.train_config import OptimizerConfig


def make_optimizer(trainee: Trainee, config: OptimizerConfig) -> torch.optim.AdamW:
    """Make the optimizer; it is fused where PyTorch can.

    Matrices of the network learn by the ratio of the base model's width to its own slower, which together with the
    divisor of the logits lets one learning rate fit all widths. Source: muP (Yang et al., Tensor Programs V, 2022).
    Only matrices decay.
    """
    ratio = 1.0 / trainee.network.config.backbone.logits_divisor
    matrices, others = _parted(trainee)
    groups = [
        {"params": [p for name, p in matrices if name.startswith("network.")], "factor": ratio},
        {"params": [p for name, p in matrices if not name.startswith("network.")], "factor": 1.0},
        {"params": [p for _, p in others], "factor": 1.0, "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(
        [group for group in groups if group["params"]],
        lr=config.learning_rate,
        betas=config.betas,
        weight_decay=config.weight_decay,
        fused=True,
    )


def set_rate(
    optimizer: torch.optim.Optimizer, config: OptimizerConfig, schedule: Schedule, step: int
) -> float:
    """Set the learning rate of a step and return that of the base group."""
    rate = config.learning_rate * schedule.factor(step)
    for group in optimizer.param_groups:
        group["lr"] = rate * group["factor"]
    return rate


Named = list[tuple[str, nn.Parameter]]


def _parted(trainee: Trainee) -> tuple[Named, Named]:
    """Matrices, and all that is no matrix: vectors, embeddings, convolutions' taps, the clock."""
    tables = {id(module.weight) for module in trainee.modules() if isinstance(module, nn.Embedding)}
    matrices, others = Named(), Named()
    for name, parameter in trainee.named_parameters():
        is_matrix = parameter.dim() > 1 and min(parameter.shape[-2:]) > 1 and id(parameter) not in tables
        is_table = name.endswith(("clock.hands.weight", "rel_logits_proj.proj", ".taps"))
        (matrices if is_matrix and not is_table else others).append((name, parameter))
    return matrices, others

"""Magnitude pruning: which weights of a kernel are zero, and when."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt


def sparsity_at(target: float, begin: int, end: int, epoch: int) -> float:
    """The share of zeros in `epoch` (from 0): none before `begin`, `target` from `end` on.

    Between them the cubic of Zhu and Gupta, "To prune, or not to prune" (2017):
    target * (1 - (1 - t)^3), which prunes fast while much is redundant and slowly at the end.
    """
    if epoch >= end:
        return target
    if epoch < begin:
        return 0.0
    return target * (1.0 - (1.0 - (epoch - begin) / (end - begin)) ** 3)


def default_end(begin: int, epochs: int) -> int:
    """The epoch (from 0) that reaches the target when the recipe names none: three fifths of the way."""
    return max(begin, (epochs * 3) // 5)


def zero_count(size: int, sparsity: float) -> int:
    """How many of `size` weights are zero at a sparsity: rounded, half to even."""
    return round(sparsity * size)


def keep_mask(kernel: npt.NDArray[np.float32], sparsity: float) -> npt.NDArray[np.float32]:
    """1 for weights that stay, 0 for the `zero_count` smallest in magnitude (the first of equals). Kernel's shape.

    A weight that is already zero is smallest, so a mask computed from a pruned kernel keeps what was pruned.
    """
    flat = np.abs(kernel).ravel()
    mask = np.ones(flat.size, dtype=np.float32)
    mask[np.argsort(flat, kind="stable")[: zero_count(flat.size, sparsity)]] = 0.0
    return mask.reshape(kernel.shape)

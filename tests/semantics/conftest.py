"""One small graph with every op, two outputs, a label per channel and a two-stage Requant."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import settings

from edgeflow.ir.graph import Graph
from edgeflow.ir.types import Affine, Dyadic, TensorType, frozen_array
from edgeflow.ops import Add, Conv, Dense, MaxPool, Requant, Reshape, SumPool
from edgeflow.ops.requant import Rounding, Stage
from edgeflow.semantics.builder import GraphBuilder

settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")


@pytest.fixture(scope="session")
def graph() -> Graph:
    rng = np.random.default_rng(0)
    builder = GraphBuilder("every op")
    x = builder.input("x", TensorType((4, 4, 2), -8, 7), Dyadic(3))
    kernel, bias = frozen_array(rng.integers(-4, 4, (3, 3, 1, 4))), frozen_array([5, -5, 300, 0])
    conv = Conv(kernel, bias, (1, 1), ((1, 1), (1, 1)), (1, 1), 2, -1)
    wide = builder.add(conv, (x,), Dyadic((6, 6, 7, 5)), "conv")
    narrow = Requant(
        pre=frozen_array([0, 0, 0, 1]),
        multiplier=frozen_array(3),
        stages=(Stage(frozen_array([4]), Rounding.HALF_UP), Stage(frozen_array(1), Rounding.HALF_AWAY)),
        offset=frozen_array(1),
        lo=frozen_array(-16),
        hi=frozen_array(15),
    )
    act = builder.add(narrow, (wide,), Affine(0.1, 1), "conv", "conv_act")
    largest = builder.add(MaxPool((2, 2), (2, 2), ((0, 0), (0, 0))), (act,), Dyadic(2), "max")
    total = builder.add(SumPool((2, 2), (2, 2), ((0, 0), (0, 0))), (act,), Dyadic(2), "mean")
    both = builder.add(Add((1, -1)), (largest, total), Dyadic(2), "add")
    flat = builder.add(Reshape((16,)), (both,), Dyadic(2), "flat")
    dense = Dense(frozen_array(rng.integers(-8, 8, (16, 3))), frozen_array([1, 2, 3]))
    builder.output("scores", builder.add(dense, (flat,), Dyadic(4), "dense"))
    builder.output("sum", both)
    return builder.finish()

"""RESHAPE, SQUEEZE and EXPAND_DIMS: another shape, or nothing at all."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from edgeflow.ir.types import Affine
from tests.frontends.tflite.make import Making, assert_refused, imported


def viewed(code: str, shape: Sequence[int], *, kind: str | None = None, scale: float | None = None) -> Making:
    """A (1, 4, 1, 6) input seen in another shape."""
    made = Making("view")
    x = made.input((1, 4, 1, 6), scale=0.1)
    inputs = (x, made.constant([1], "INT32")) if code == "EXPAND_DIMS" else (x,)
    made.add(code, inputs, shape, scale, kind=kind)
    return made


@pytest.mark.parametrize(
    ("code", "shape", "graph_shape"),
    [
        ("RESHAPE", (1, 24), (24,)),
        ("RESHAPE", (24,), (24,)),
        ("RESHAPE", (4, 6), (4, 6)),
        ("RESHAPE", (1, 2, 12), (2, 12)),
        ("SQUEEZE", (1, 4, 6), (4, 6)),
        ("EXPAND_DIMS", (1, 1, 4, 1, 6), (1, 4, 1, 6)),
    ],
)
def test_the_file_s_shape_counts(code: str, shape: Sequence[int], graph_shape: Sequence[int]) -> None:
    (node,) = imported(viewed(code, shape).file()).nodes
    assert type(node.op).__name__ == "Reshape"
    assert node.type.shape == graph_shape


def test_the_batch_alone_is_no_view() -> None:
    made = Making("view")
    made.add("RESHAPE", (made.input((1, 24)),), (24,))
    graph = imported(made.file())
    assert graph.nodes == ()
    assert graph.outputs[0].tensor == graph.inputs[0].name


def test_another_scale_is_another_label_of_the_same_integers() -> None:
    (node,) = imported(viewed("RESHAPE", (1, 4, 1, 6), scale=0.5).file()).nodes
    assert node.label == Affine(0.5, 0)


@pytest.mark.parametrize(
    ("made", "text"),
    [
        (viewed("RESHAPE", (1, 23)), "operator 0 (RESHAPE): it brings the shape (1, 4, 1, 6) to (1, 23)"),
        (viewed("SQUEEZE", (1, 4, 6), kind="INT16"), "operator 0 (SQUEEZE): it brings INT8 to INT16"),
    ],
)
def test_refusals_name_the_operator_and_the_fix(made: Making, text: str) -> None:
    assert_refused(made.file(), f"{text}\n  fix: write the file again: it is damaged")

"""A difference is found, counted, and traced to its layer, element and both integers."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from edgeflow.artifacts import write_bundle
from edgeflow.backends.artefact import edited_files, load_artefact, package
from edgeflow.backends.c.backend import CBackend, COptions
from edgeflow.backends.protocol import Artefact, Program, Run
from edgeflow.board import load_board
from edgeflow.conformance import Comparison, Mismatch, compare_predict, compile_and_run, graph_inputs, verify_artefact
from edgeflow.errors import EdgeflowError
from edgeflow.ir.graph import Graph, Meaning
from edgeflow.ir.types import Dyadic, IntArray, TensorType, frozen_array
from edgeflow.ops.dense import Dense
from edgeflow.ops.requant import Requant, Rounding, Stage
from edgeflow.semantics.builder import GraphBuilder
from edgeflow.semantics.interpret import interpret
from edgeflow.semantics.labels import to_reals
from edgeflow.vectors import NO_INTEGER, Judgement, Rounded, Vectors
from tests.conftest import NeedTool


def small_graph() -> Graph:
    builder = GraphBuilder("small")
    rng = np.random.default_rng(3)
    at = builder.input("x", TensorType((6,), 0, 15), Dyadic(4))
    for number, width in enumerate((5, 4, 3)):
        weight = frozen_array(rng.integers(-7, 8, (builder.type(at).size, width)))
        at = builder.add(
            Dense(weight, frozen_array(np.zeros(width, dtype=np.int64))), (at,), Dyadic(6), f"dense{number}"
        )
        if number < 2:
            zero, stage = frozen_array(0), Stage(frozen_array(2), Rounding.HALF_EVEN)
            op = Requant(zero, frozen_array(1), (stage,), zero, zero, frozen_array(31))
            at = builder.add(op, (at,), Dyadic(4), f"dense{number}", f"dense{number}_act")
    builder.output("y", at)
    return builder.finish()


GRAPH = small_graph()


def vectors(graph: Graph = GRAPH, samples: int = 20) -> Vectors:
    rng = np.random.default_rng(1)
    reals = (rng.integers(0, 16, (samples, 6)) / 16).astype(np.float32)
    inputs = {"x": reals}
    integers = graph_inputs(graph, Vectors(inputs, {}))
    outputs, _ = interpret(graph, integers)
    label = graph.tensor(graph.outputs[0].tensor).label
    labels = outputs["y"].argmax(axis=1)
    labels[0] = (labels[0] + 1) % 3
    return Vectors(inputs, {"y": to_reals(outputs["y"], label).astype(np.float32)}, labels)


def built(folder: Path) -> Artefact:
    write_bundle(folder, package(CBackend(), GRAPH, load_board("rpi-pico"), COptions()))
    return load_artefact(folder)


def test_all_runners_agree_and_accuracy_is_the_graphs(tmp_path: Path, need_tool: NeedTool) -> None:
    need_tool("gcc")
    need_tool("arm-none-eabi-gcc")
    need_tool("qemu-system-arm")
    found = verify_artefact(built(tmp_path / "fw"), vectors())
    assert [one.runner for one in found.comparisons] == ["predict", "host", "host-sanitized", "qemu"]
    assert [(one.samples, one.values, one.mismatches) for one in found.comparisons] == [(20, 60, 0)] * 4
    assert found.bit_exact
    assert found.accuracy == 19 / 20


def test_compiling_once_runs_what_is_nearest_to_the_target(tmp_path: Path, need_tool: NeedTool) -> None:
    need_tool("arm-none-eabi-gcc")
    need_tool("qemu-system-arm")
    ran = compile_and_run(built(tmp_path / "fw"))
    assert (ran.title, ran.samples, ran.values, ran.mismatches) == ("C on QEMU cortex-m0plus", 8, 24, 0)
    assert {"flash", "instructions"} <= {one.name for one in ran.resources}


def test_a_fault_in_the_middle_is_traced_to_its_layer(
    tmp_path: Path, need_tool: NeedTool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The compiled code is right, so the fault is put into what it answers: from `dense1` on, element 2 is off."""
    need_tool("gcc")
    artefact = built(tmp_path / "fw")
    real = CBackend.run

    def faulty(self: CBackend, program: Program, inputs: dict[str, IntArray]) -> Run:
        done = real(self, program, inputs)
        outputs = dict(done.outputs)
        for name in ("dense1", "dense1_act"):
            if name in outputs:
                outputs[name] = outputs[name].copy()
                outputs[name][:, 2] += 1
        if "y" in outputs:
            outputs["y"] = outputs["y"].copy()
            outputs["y"][7:, 1] -= 5
        return Run(outputs, done.resources)

    monkeypatch.setattr(CBackend, "run", faulty)
    found = verify_artefact(artefact, vectors(), ["host"])
    host = found.comparisons[1]
    assert (host.mismatches, host.bit_exact, found.bit_exact) == (13, False, False)
    assert host.first is not None
    assert (host.first.layer, host.first.sample, host.first.element) == ("dense1", 7, 2)
    assert host.first.got == host.first.expected + 1


def test_edited_code_that_computes_something_else_is_caught(tmp_path: Path, need_tool: NeedTool) -> None:
    need_tool("gcc")
    artefact = built(tmp_path / "fw")
    source = tmp_path / "fw" / "model" / "small.c"
    text = source.read_text()
    source.write_text(re.sub(r"(l\d_dense2_weight\[12\] = \{\n\s*)-?\d+", r"\g<1>9", text))
    assert source.read_text() != text
    assert edited_files(tmp_path / "fw") == ("model/small.c",)
    found = verify_artefact(artefact, vectors(), ["host"])
    assert not found.bit_exact
    assert found.comparisons[1].first is not None
    assert found.comparisons[1].first.layer == "dense2"


def test_predict_that_differs_or_is_no_integer_is_a_mismatch() -> None:
    good = vectors()
    outputs, _ = interpret(GRAPH, graph_inputs(GRAPH, good))
    wrong = good.outputs["y"].copy()
    wrong[4, 1] += 2.0**-6
    found = compare_predict(GRAPH, Vectors(good.inputs, {"y": wrong}), outputs)
    expected = int(outputs["y"][4, 1])
    assert (found.mismatches, found.first) == (1, Mismatch("dense2", 4, 1, expected, expected + 1))
    wrong[4, 1] = good.outputs["y"][4, 1] + 2.0**-9
    wrong[5, 0] = np.nan
    found = compare_predict(GRAPH, Vectors(good.inputs, {"y": wrong}), outputs)
    assert (found.mismatches, found.first) == (2, Mismatch("dense2", 4, 1, expected, None))


REAL = replace(GRAPH, meaning=Meaning.REAL)
EXPLAINED, ODD = Rounded(300, 3), Rounded(200, 4, 2, 7, 1, 5, 6)


def predicted(judgement: Judgement | None, changed: int, graph: Graph = REAL) -> Comparison:
    """The comparison when that many of predict's values are others: one large one a sample, from the first on."""
    good = vectors(samples=100)
    outputs, _ = interpret(graph, graph_inputs(graph, good))
    values = good.outputs["y"].copy()
    values[:changed, 0] = 100
    return compare_predict(graph, Vectors(good.inputs, {"y": values}, None, judgement), outputs)


def judgement(**layers: Rounded) -> Judgement:
    return Judgement(vectors(samples=100).outputs, layers)


def test_differences_from_real_arithmetic_are_no_fault_where_every_layer_is_explained() -> None:
    found = predicted(judgement(dense0=EXPLAINED, dense1=Rounded(100)), 50)
    assert (found.mismatches, found.tolerated, found.unexplained, found.agrees) == (50, 50, 0, True)
    assert (found.bit_exact, found.judged, found.layers) == (False, True, ("dense0",))
    most = vectors(samples=100).outputs["y"].argmax(axis=1)
    assert found.decisions == int((most[:50] != 0).sum())


def test_one_value_that_float32_does_not_explain_is_a_fault_in_its_layer() -> None:
    for changed in (0, 3):
        found = predicted(judgement(dense0=EXPLAINED, dense1=ODD), changed)
        assert (found.unexplained, found.tolerated, found.agrees) == (2, 0, False)
        assert found.first == Mismatch("dense1", 7, 1, 5, 6)
    found = predicted(judgement(dense1=replace(ODD, got=NO_INTEGER)), 0)
    assert found.first == Mismatch("dense1", 7, 1, 5, None)


def test_without_a_judgement_nothing_is_tolerated() -> None:
    assert (predicted(None, 0).agrees, predicted(None, 1).agrees, predicted(None, 1).judged) == (True, False, False)


def test_a_judgement_in_which_no_layer_differs_explains_nothing() -> None:
    same = judgement(dense0=Rounded(300))
    assert (predicted(same, 0).agrees, predicted(same, 0).judged) == (True, True)
    found = predicted(same, 3)
    assert (found.judged, found.tolerated, found.mismatches, found.agrees) == (False, 0, 3, False)


def test_an_exact_graph_asks_for_no_judgement() -> None:
    found = predicted(judgement(dense0=EXPLAINED), 1, GRAPH)
    assert (found.judged, found.mismatches, found.agrees) == (None, 1, False)


def test_a_judgement_of_another_model_explains_nothing() -> None:
    reals = vectors(samples=100).outputs["y"].copy()
    reals[9, 2] += 2.0**-6
    found = predicted(Judgement({"y": reals}, {"dense0": EXPLAINED}), 3)
    assert (found.unexplained, found.agrees) == (1, False)
    assert found.first is not None
    assert (found.first.layer, found.first.sample, found.first.element) == ("dense2", 9, 2)


def test_a_calibrated_graph_is_its_own_reference() -> None:
    good = vectors()
    own = replace(GRAPH, meaning=Meaning.OWN)
    outputs, _ = interpret(own, graph_inputs(own, good))
    found = compare_predict(own, Vectors(good.inputs, {}), outputs)
    assert (found.runner, found.values, found.mismatches, found.agrees) == ("graph", 60, 0, True)


@pytest.mark.parametrize(
    ("given", "text"),
    [
        (Vectors({"z": np.zeros((2, 6), np.float32)}, {}), "the vectors hold no input 'x' (they hold: z)"),
        (
            Vectors({"x": np.zeros((2, 5), np.float32)}, {}),
            "input 'x' of the vectors has samples of shape (5,), the model reads (6,)",
        ),
    ],
)
def test_vectors_of_another_model_are_refused(given: Vectors, text: str) -> None:
    with pytest.raises(EdgeflowError) as caught:
        graph_inputs(GRAPH, given)
    assert str(caught.value) == f"{text}\n  fix: make them from this model: edgeflow predict MODEL --data F -o D"


def test_an_unknown_runner_is_told(tmp_path: Path) -> None:
    with pytest.raises(EdgeflowError) as caught:
        verify_artefact(built(tmp_path / "fw"), vectors(), ["silicon"])
    assert str(caught.value) == 'backend c has no runner "silicon"\n  fix: choose from: host, host-sanitized, qemu'


@pytest.mark.parametrize("damage", [b"", b"{", b"[]", b'{"schema": 9}', b'{"schema": 1, "backend": "d"}', b"\xff"])
def test_a_damaged_manifest_is_an_error_that_names_the_folder(damage: bytes, tmp_path: Path) -> None:
    built(tmp_path / "fw")
    (tmp_path / "fw" / "edgeflow.json").write_bytes(damage)
    with pytest.raises(EdgeflowError) as caught:
        load_artefact(tmp_path / "fw")
    assert "damaged edgeflow.json" in str(caught.value) or "unknown backend" in str(caught.value)

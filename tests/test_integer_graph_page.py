"""docs/integer-graph.md is true: every op and parameter is listed, and every example gives the stated integers."""

from __future__ import annotations

import dataclasses
import enum
import io
import json
import re
import typing
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgeflow.errors import EdgeflowError
from edgeflow.ir.graph import Graph, Op
from edgeflow.ir.types import Affine, Dyadic, Label, TensorType, frozen_array, interval_bits
from edgeflow.ops import OPS
from edgeflow.ops.requant import Rounding, Stage, round_shift
from edgeflow.semantics.builder import GraphBuilder
from edgeflow.semantics.interpret import interpret
from edgeflow.semantics.labels import to_reals
from edgeflow.semantics.serialize import MODEL, SCHEMA, WEIGHTS, from_files, to_files
from edgeflow.semantics.text import show_graph

PAGE = (Path(__file__).resolve().parent.parent / "docs" / "integer-graph.md").read_text()


def section(title: str, level: int = 2) -> str:
    """The text under a heading, up to the next heading of its level or above."""
    found = re.search(rf"^#{{{level}}} {title}\n(.*?)(?=^#{{2,{level}}} |\Z)", PAGE, flags=re.DOTALL | re.MULTILINE)
    assert found, title
    return found[1]


def tables(text: str) -> list[list[list[str]]]:
    """The rows of every table, without head and rule."""
    blocks = re.findall(r"(?:^\|.*\n)+", text, flags=re.MULTILINE)
    return [[[cell.strip() for cell in row[1:-1].split("|")] for row in block.splitlines()[2:]] for block in blocks]


def examples() -> list[Any]:
    return [json.loads(block) for block in re.findall(r"```json\n(.*?)```", PAGE, flags=re.DOTALL)]


OP_EXAMPLES: list[dict[str, Any]] = [one for one in examples() if "op" in one]


def built(kind: Any, value: Any) -> Any:
    """A parameter from its JSON form, by the field's type."""
    if dataclasses.is_dataclass(kind):
        hints = typing.get_type_hints(kind)
        assert set(value) == set(hints)
        return typing.cast(Any, kind)(**{name: built(hints[name], one) for name, one in value.items()})
    if typing.get_origin(kind) is np.ndarray:
        return frozen_array(value)
    if typing.get_origin(kind) is tuple:
        inner = typing.get_args(kind)
        kinds = [inner[0]] * len(value) if inner[-1] is Ellipsis else inner
        return tuple(built(part, one) for part, one in zip(kinds, value, strict=True))
    if isinstance(kind, type) and issubclass(kind, enum.Enum):
        return kind(value)
    assert type(value) is kind
    return value


def graph_of(example: Mapping[str, Any]) -> Graph:
    builder = GraphBuilder("example")
    names: list[str] = []
    for number, one in enumerate(example["inputs"]):
        shape = np.array(one["values"]).shape
        names.append(builder.input(f"x{number}", TensorType(shape, one["lo"], one["hi"]), Dyadic(0)))
    op = typing.cast(Op, built(OPS[example["op"]], example["parameters"]))
    builder.output("y", builder.add(op, tuple(names), Dyadic(0), "layer", "node"))
    return builder.finish()


def test_every_op_has_a_section_in_the_order_of_the_code() -> None:
    assert re.findall(r"^### (\w+)$", section("Ops"), flags=re.MULTILINE) == list(OPS)


@pytest.mark.parametrize("name", OPS)
def test_an_ops_parameters_are_its_fields_and_it_has_an_example(name: str) -> None:
    text = section(name, 3)
    listed = [[row[0] for row in rows] for rows in tables(text)]
    fields = [field.name for field in dataclasses.fields(typing.cast(Any, OPS[name]))]
    if name == "Requant":
        assert listed.pop() == [field.name for field in dataclasses.fields(Stage)]
    assert listed == ([fields] if fields else [])
    assert ("No parameters." in text) == (not fields)
    assert "Shape" in text
    assert "nterval" in text
    assert any(one["op"] == name and "output" in one for one in OP_EXAMPLES)


@pytest.mark.parametrize("number", range(len(OP_EXAMPLES)), ids=[one["op"] for one in OP_EXAMPLES])
def test_an_example_gives_the_stated_integers_and_interval(number: int) -> None:
    example = OP_EXAMPLES[number]
    if "error" in example:
        with pytest.raises(EdgeflowError) as caught:
            graph_of(example)
        assert caught.value.what == example["error"]
        return
    graph = graph_of(example)
    given = {f"x{number}": np.array([one["values"]]) for number, one in enumerate(example["inputs"])}
    outputs, _ = interpret(graph, given)
    kind = graph.tensor("node").type
    assert {"lo": kind.lo, "hi": kind.hi, "values": outputs["y"][0].tolist()} == example["output"]
    assert outputs["y"][0].shape == np.array(example["output"]["values"]).shape


def test_the_table_of_roundings() -> None:
    counts, formulas = tables(section("Roundings"))
    for x, shift, *rounded in counts:
        expected = [round_shift(np.array(int(x)), np.array(int(shift)), one) for one in Rounding]
        assert [int(one) for one in rounded] == [int(one) for one in expected], (x, shift)
    assert [row[0] for row in formulas] == [one.value for one in Rounding]
    for name, formula in formulas:
        for x in range(-40, 41):
            for s in (1, 2, 3):
                value = eval(formula.strip("`").replace("^", "**"), {}, {"x": x, "s": s})
                assert value == round_shift(np.array(x), np.array(s), Rounding(name)), (name, x, s)


def test_the_tables_of_types_and_labels() -> None:
    types, labels = tables(section("Tensors"))
    for lo, hi, text in types:
        assert str(TensorType((), int(lo), int(hi))).startswith(f"{text}[")
        assert interval_bits(int(lo), int(hi)) == int(text[1:])
    for data, integer, real in labels:
        fields = json.loads(data)
        label: Label = Dyadic(**fields) if "frac" in fields else Affine(**fields)
        assert float(to_reals(frozen_array(int(integer)), label)) == float(real)


def test_the_text_form_and_the_file_form_are_one_graph() -> None:
    stored = next(one for one in examples() if "edgeflow_graph" in one)
    arrays = next(one for one in examples() if "weights.npz" in one)["weights.npz"]
    text = re.search(r"```text\n(.*?)```", PAGE, flags=re.DOTALL)
    assert text
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        for key, one in arrays.items():
            content = io.BytesIO()
            np.lib.format.write_array(content, np.array(one["values"], dtype=one["dtype"]))
            archive.writestr(zipfile.ZipInfo(f"{key}.npy"), content.getvalue())
    graph = from_files({MODEL: json.dumps(stored).encode(), WEIGHTS: packed.getvalue()}, "the page")
    assert stored["edgeflow_graph"] == SCHEMA
    assert show_graph(graph) == text[1]
    assert json.loads(to_files(graph)[MODEL]) == stored
    assert to_files(graph)[WEIGHTS] == packed.getvalue()

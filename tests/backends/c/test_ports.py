"""What the header offers for real values: the integers of edgeflow's own conversion, for every float."""

from __future__ import annotations

import subprocess
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from edgeflow.backends.c.emit import emit_model
from edgeflow.ir.graph import Graph
from edgeflow.ir.types import Affine, Dyadic, Label, TensorType
from edgeflow.ops.transpose import Transpose
from edgeflow.semantics.builder import GraphBuilder
from edgeflow.semantics.labels import to_integers, to_reals
from tests.conftest import NeedTool

INT8, UINT8, INT16 = (-128, 127), (0, 255), (-32768, 32767)
CASES: dict[str, tuple[Label, tuple[int, int]]] = {
    "dyadic": (Dyadic(7), INT8),
    "coarse": (Dyadic(-3), INT16),
    "finest": (Dyadic(126), INT8),
    "coarsest": (Dyadic(-126), INT8),
    "wide": (Dyadic(4), (-(1 << 31), (1 << 31) - 1)),
    "24 bits": (Dyadic(4), (-(1 << 24), 1 << 24)),
    "affine": (Affine(float(np.float32(0.1)), 83), INT8),
    "below": (Affine(0.5, -128), INT8),
    "unsigned": (Affine(float(np.float32(1 / 255)), 0), UINT8),
    "outside": (Affine(0.25, -300), INT8),
    "no float": (Affine(1 / 3, -5), INT16),
    "by channel": (Dyadic((1, -2)), INT8),
}
STRICT = (
    *("-std=c99", "-O1", "-Wall", "-Wextra", "-Wconversion", "-Wshadow", "-Wdouble-promotion", "-pedantic", "-Werror"),
    *("-fsanitize=undefined,float-cast-overflow", "-fno-sanitize-recover=all"),
)


def moved(label: Label, lo: int, hi: int) -> Graph:
    builder = GraphBuilder("m")
    x = builder.input("x", TensorType((2, 1, 2), lo, hi), label)
    builder.output("y", builder.add(Transpose((1, 0, 2)), (x,), label, "t"))
    return builder.finish()


def program(folder: Path, gcc: str, graph: Graph, loop: str) -> Path:
    """Compiles a program that turns standard input into standard output."""
    made = emit_model(graph)
    (folder / "m.h").write_text(made.header)
    source = folder / "main.c"
    source.write_text(f'#include "m.h"\n#include <stdio.h>\nint main(void)\n{{\n    {loop}\n    return 0;\n}}\n')
    subprocess.run([gcc, *STRICT, source, "-o", folder / "main"], check=True)
    return folder / "main"


def floats(label: Label, lo: int, hi: int) -> npt.NDArray[np.float32]:
    """Every kind of float: any bits, the ties and ends of the label and their neighbours, in pairs for two channels."""
    rng = np.random.default_rng(7)
    wild = rng.integers(0, 1 << 32, 4000, dtype=np.uint32).view(np.float32)
    wild[np.isnan(wild)] = np.nan
    some = np.unique(np.concatenate([[lo, lo + 1, -1, 0, 1, hi - 1, hi], rng.integers(lo, hi, 900, endpoint=True)]))
    both = np.stack([some, some], axis=1).reshape(-1, 1, 2)
    unit = to_reals(both + 1, label) - to_reals(both, label)
    with np.errstate(over="ignore", under="ignore"):
        ends = [to_reals(both, label) + unit * part for part in (-0.5, 0, 0.5)]
        edges = np.concatenate(ends).astype(np.float32).reshape(-1)
        near = [edges, np.nextafter(edges, np.float32(np.inf)), np.nextafter(edges, np.float32(-np.inf))]
    special = np.array([np.nan, -np.nan, np.inf, -np.inf, 0.0, -0.0, 1e-45, -1e-45], dtype=np.float32)
    return np.concatenate([wild, *near, special])


@pytest.mark.parametrize("case", CASES)
def test_quantize_gives_edgeflows_own_integers(case: str, tmp_path: Path, need_tool: NeedTool) -> None:
    label, (lo, hi) = CASES[case]
    channel = ", k++ % 2u" if case == "by channel" else ""
    counter = "uint32_t k = 0;" if channel else ""
    loop = (
        f"float v; {counter} while (fread(&v, sizeof v, 1, stdin) == 1) "
        f"{{ const m_in_x_t q = m_in_x_quantize(v{channel}); fwrite(&q, sizeof q, 1, stdout); }}"
    )
    built = program(tmp_path, need_tool("gcc"), moved(label, lo, hi), loop)
    values = floats(label, lo, hi)
    done = subprocess.run([built], input=values.tobytes(), capture_output=True, check=True)
    kind = emit_model(moved(label, lo, hi)).lowered.buffers["x"].ctype.dtype
    expected = to_integers(values.reshape(-1, 1, 2), TensorType((1, 2), lo, hi), label).reshape(-1)
    np.testing.assert_array_equal(np.frombuffer(done.stdout, dtype=kind).astype(np.int64), expected)


@pytest.mark.parametrize("case", CASES)
def test_dequantize_gives_the_nearest_float(case: str, tmp_path: Path, need_tool: NeedTool) -> None:
    label, (lo, hi) = CASES[case]
    channel = ", k++ % 2u" if case == "by channel" else ""
    counter = "uint32_t k = 0;" if channel else ""
    loop = (
        f"m_out_y_t q; {counter} while (fread(&q, sizeof q, 1, stdin) == 1) "
        f"{{ const float v = m_out_y_dequantize(q{channel}); fwrite(&v, sizeof v, 1, stdout); }}"
    )
    graph = moved(label, lo, hi)
    built = program(tmp_path, need_tool("gcc"), graph, loop)
    made = emit_model(graph)
    some = np.unique(np.concatenate([[lo, hi, 0], np.random.default_rng(3).integers(lo, hi, 3000, endpoint=True)]))
    some = np.stack([some, some], axis=1)
    sent = some.astype(made.output_buffer("y").ctype.dtype).tobytes()
    done = subprocess.run([built], input=sent, capture_output=True, check=True)
    with np.errstate(over="ignore"):
        expected = to_reals(some.reshape(-1, 1, 2), label).astype(np.float32).reshape(-1)
    found = np.frombuffer(done.stdout, dtype=np.float32)
    if case == "no float":  # the scale itself is rounded to a float
        np.testing.assert_allclose(found, expected, rtol=2.0**-22)
    else:
        np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize(
    ("label", "lo", "hi"),
    [
        (Dyadic(0), 0, 1 << 31),
        (Affine(0.5, 1), -(1 << 31), 0),
        (Dyadic(200), *INT8),
        (Dyadic((1, 200)), *INT8),
    ],
)
def test_units_that_no_float_reaches_have_no_helper(label: Label, lo: int, hi: int) -> None:
    header = emit_model(moved(label, lo, hi)).header
    assert "float" not in header


def test_the_formula_stands_over_the_helper() -> None:
    header = emit_model(moved(Affine(0.5, -128), *INT8)).header
    assert (
        "/* A real value as an integer of input x: real / 0.5, in double, rounded half to even, plus (-128),\n"
        " * clamped to [-128, 127]; NaN counts as 0. The same as edgeflow's own. */\n"
    ) in header
    assert "/* The real value of an integer of output y: 0.5 * (value + 128), in float. */\n" in header


def test_no_float_is_left_where_none_is_wanted(tmp_path: Path, need_tool: NeedTool) -> None:
    graph = moved(Affine(0.5, -128), *INT8)
    program(tmp_path, need_tool("gcc"), graph, "")
    text = subprocess.run(
        [need_tool("gcc"), "-E", "-P", "-DM_NO_FLOAT", tmp_path / "m.h"], capture_output=True, text=True, check=True
    ).stdout
    assert "m_run" in text
    assert "float" not in text
    assert "double" not in text

"""Writes docs/supported-layers.md from what the doors and the backends themselves say (`make docs`)."""

from __future__ import annotations

import inspect
import re
import sys
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path

from edgeflow.artifacts import write_file
from edgeflow.backends import BACKENDS
from edgeflow.board import load_board
from edgeflow.frontends import load_model
from edgeflow.frontends.qkeras import content, importer, model, structure
from edgeflow.frontends.qkeras.layers import INSTEAD, LAYERS
from edgeflow.frontends.qkeras.quantizers import config, read
from edgeflow.frontends.tflite import reader
from edgeflow.frontends.tflite.operators import HANDLERS
from edgeflow.ops.softmax import MOST_CHANNELS
from edgeflow.resource import Severity
from edgeflow.semantics.verify import LARGEST_TENSOR
from tests.crossing import FORMS, Form

BOARD_OF = {"c": "rpi-pico", "tflm": "nucleo-f446re", "hls4ml": "pynq-z2"}
_ARTICLES = ("A ", "An ", "The ")
PAGE = Path(__file__).resolve().parent.parent / "docs" / "supported-layers.md"

SAID: Mapping[str, str] = {
    "tie_free_bits": "edgeflow's own, for biases: the nearest odd code, ends included",
    "QDense": "Dense over the last axis of an input of any rank, then its activation; Batchnorm is folded first",
    "QConv1D": "Conv with strides, padding, dilation and groups, then its activation; Batchnorm is folded first",
    "QDepthwiseConv2D": "Conv with one group a channel, then its activation; Batchnorm is folded first",
    "QSeparableConv1D": "two Convs, depthwise and 1x1, with nothing rounded between them, then the activation",
    "QConv2DTranspose": "Upsample with zeros, then Conv, then its activation",
    "QBatchNormalization": "as BatchNormalization, on quantized parameters",
    "BatchNormalization": "a real scale and shift a channel behind a quantized layer: part of the next quantizer, "
    "which becomes a Requant or a Threshold with every step at its exact place",
    "ReLU": "a clamp, part of the next quantizer",
    "Softmax": "nothing at the model's end: the largest class stays the largest",
    "QActivation": "a quantizer, linear, or a softmax at the model's end",
    "MaxPooling1D": "MaxPool",
    "AveragePooling1D": "SumPool; the division is part of the next quantizer. 'same' divides by the real elements",
    "GlobalMaxPooling1D": "MaxPool over all positions",
    "GlobalAveragePooling1D": "SumPool over all positions; the division is part of the next quantizer",
    "QAveragePooling2D": "SumPool and a Requant by the quantized 1 / area, then its activation",
    "QGlobalAveragePooling2D": "SumPool and a Requant by the quantized 1 / area, then its activation",
    "Multiply": "Multiply, two or more tensors; an axis of length 1 serves the whole axis of the others",
    "Add": "Add; inputs are brought to one shape and to the finest unit among them",
    "Subtract": "Add, the second input negated",
    "Concatenate": "Concat along any axis; along the last, every channel keeps its own unit",
    "Maximum": "a MaxPool over the stacked tensors",
    "Minimum": "the negative of the largest negative",
    "Average": "Add with a finer unit, of 2, 4 or 8 tensors",
    "ZeroPadding1D": "Pad",
    "Cropping1D": "Slice",
    "UpSampling1D": "Upsample, nearest",
    "Permute": "Transpose",
    "Reshape": "Reshape; -1 stands for what is left",
    "Flatten": "Reshape to one axis, row-major",
    "RepeatVector": "(channels) becomes (n, channels)",
    "Dropout": "nothing: it does nothing at inference",
    "quantized_bits": "x / step rounded half to even, then clipped; one bit is a sign, and 0 counts as positive",
    "quantized_linear": "x / step clipped, then rounded half to even; alpha scales the step",
    "quantized_relu": "max(x, 0) rounded half to even, with negative_slope, relu_upper_bound and use_sigmoid",
    "quantized_po2": "sign(x) times a power of two; never 0",
    "quantized_relu_po2": "a power of two, for positive x",
    "binary": "-1 below 0, else 1; use_01 gives 0 and 1",
    "stochastic_binary": "binary: at inference nothing is drawn",
    "ternary": "the sign of x where abs(x) reaches the threshold, else 0",
    "stochastic_ternary": "ternary: at inference nothing is drawn",
    "relu": "max(x, 0), rounding nothing: a clamp, part of the next quantizer",
    "relu6": "max(x, 0), at most 6: a clamp, part of the next quantizer",
}
"""Where a function's own documentation speaks to those who read the code; for the first of the names it serves."""

HEAD = """# What edgeflow supports

Made by `make docs` from the code itself; a test holds it up to date. Everything else is refused by name, with the
reason and what to use instead, before anything is built. `docs/integer-graph.md` says what each op of the integer graph
computes.
"""

FILES = """## Files that `edgeflow import` reads

{forms} Keras' files are read in a child process with limits on time and memory. Nothing in a file is executed.

{limits}
"""

OPERATORS = """## TFLite operators

With TFLite-Micro's bytes, for int8 and for int16 activations with int8 weights; scales for a tensor or a channel, and
any zero point:

{names}.
"""

LAYERS_READ = """## Keras layers

{table}
"""

QUANTIZERS = """## Quantizers

Activations may be any quantizer with "yes" in the first column, given as an object or as text; kernels and biases any
with "yes" in the second. With {auto} on a kernel, the scale is worked out as QKeras works it out at every call.

{table}
"""

REFUSED = """## Refused, and what to use instead

{table}
"""

OPS_HEAD = """## Ops of the integer graph, by backend

"exact" means: compiled, run with every runner of the backend on extreme inputs, and equal to the interpreter.

{table}
"""


def answer(backend: str, form: Form) -> str:
    """`exact`, or the finding that refuses it."""
    target, board = BACKENDS[backend], load_board(BOARD_OF[backend])
    options, graph = target.Options(), form.graph()
    adapted = target.adapt(graph, board, options)
    refused = [one.what for one in target.check(adapted, board, options) if one.severity is Severity.ERROR]
    return refused[0].removeprefix(f"backend {backend} ") if refused else "exact"


def rows(cells: Sequence[Sequence[str]]) -> str:
    """A Markdown table."""
    head, *body = ["| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in cells]
    return "\n".join([head, "|" + "---|" * len(cells[0]), *body])


def code(*names: str) -> str:
    """Names as code, in order."""
    return ", ".join(f"`{name}`" for name in names)


def told(function: Callable[..., object], names: Sequence[str]) -> str:
    """What a function's documentation says of the things that it reads: its first paragraph without their names.

    The documentation of its module where its own says no more than the names.
    """
    if names[0] in SAID:
        return SAID[names[0]]
    paragraph = " ".join((inspect.getdoc(function) or "").partition("\n\n")[0].split()).partition(" Raises ")[0]
    if set(re.findall(r"\w+", paragraph)) <= {*names, "and"}:
        paragraph = (inspect.getdoc(sys.modules[function.__module__]) or "").partition("\n")[0]
    head, _, rest = paragraph.partition(": ")
    words = rest if rest and any(name in head for name in names) else paragraph
    return words[:1].lower() + words[1:].rstrip(".") if words.startswith(_ARTICLES) else words.rstrip(".")


def layer_rows() -> Iterator[list[str]]:
    """Layers that one function reads share a row."""
    groups: dict[Callable[..., object], list[str]] = defaultdict(list)
    for name, function in LAYERS.items():
        groups[function.func if isinstance(function, partial) else function].append(name)
    yield ["layer", "becomes"]
    for function, names in groups.items():
        yield [code(*names), told(function, names)]


def quantizer_rows() -> Iterator[list[str]]:
    """Quantizers of activations first, in the order of the code."""
    yield ["quantizer", "on activations", "on weights", "computes"]
    for name in dict.fromkeys([*read._ACTIVATIONS, *read._WEIGHTS]):
        function = read._ACTIVATIONS.get(name) or read._WEIGHTS[name]
        yes = ("yes" if name in table else "" for table in (read._ACTIVATIONS, read._WEIGHTS))
        yield [code(name), *yes, told(function, [name])]


def refused_rows() -> Iterator[list[str]]:
    """Layers, then quantizers and activation functions."""
    yield ["layer, quantizer or activation", "instead"]
    for name, fix in INSTEAD.items():
        yield [code(name), fix]
    for name, (reason, fix) in read._REFUSED.items():
        yield [code(name), f"{fix} (it {reason})"]


def limits() -> str:
    """The limits of what is imported, as the code has them."""
    lines = [
        f"a file of {content.LARGEST_FILE >> 20} MiB, {structure.MOST_LAYERS:,} layers, {model.MOST_CALLS:,} calls of "
        f"layers, models nested {structure.DEEPEST_MODEL} deep",
        f"a .tflite file of {reader.LARGEST_FILE >> 20} MiB, {reader.MOST_OPERATORS:,} operators",
        f"tensors of {LARGEST_TENSOR:,} elements, softmax over {MOST_CHANNELS:,} classes",
        f"quantizers of {config.MOST_BITS} bits with -{config.MOST_INTEGER} to {config.MOST_INTEGER} integer bits",
        f"sums of {importer.FLOAT32_EXACT:,} steps, where QKeras' own float32 stops being exact",
    ]
    return "At most:\n\n" + "\n".join(f"- {line}" for line in lines)


def forms() -> str:
    """The second paragraph of the door's documentation up to what it raises."""
    paragraph = (inspect.getdoc(load_model) or "").split("\n\n")[1]
    return " ".join(paragraph.partition("Raises ")[0].split())


def op_rows() -> Iterator[list[str]]:
    """Every form of every op through every backend."""
    yield ["op", "form", *(f"`{name}`" for name in BACKENDS)]
    for form in FORMS:
        yield [form.op, form.title, *(answer(name, form) for name in BACKENDS)]


def support_page() -> str:
    """The whole page."""
    automatic = " or ".join(f"`alpha='{one.value}'`" for one in config.Auto)
    parts = (
        HEAD,
        FILES.format(forms=forms(), limits=limits()),
        LAYERS_READ.format(table=rows(list(layer_rows()))),
        QUANTIZERS.format(auto=automatic, table=rows(list(quantizer_rows()))),
        REFUSED.format(table=rows(list(refused_rows()))),
        OPERATORS.format(names=code(*sorted(HANDLERS))),
        OPS_HEAD.format(table=rows(list(op_rows()))),
    )
    return "\n".join(parts)


if __name__ == "__main__":
    write_file(PAGE, support_page().encode())

"""Writes docs/supported-layers.md from what the doors and the backends themselves say (`make docs`)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from edgeflow.artifacts import write_file
from edgeflow.backends import BACKENDS
from edgeflow.board import load_board
from edgeflow.frontends.qkeras.layers import LAYERS
from edgeflow.resource import Severity
from tests.crossing import FORMS, Form

BOARD_OF = {"c": "rpi-pico", "tflm": "nucleo-f446re", "hls4ml": "pynq-z2"}
PAGE = Path(__file__).resolve().parent.parent / "docs" / "supported-layers.md"

HEAD = """# What edgeflow supports

Made by `make docs` from the code itself; a test holds it up to date. Everything else is refused by name, with the
reason, before anything is built.

## Keras layers that `edgeflow import` reads

{layers}

Weights: `quantized_bits` with `alpha=1`, another power of two, or `auto_po2`. Activations: `quantized_bits` and
`quantized_relu`.

## Ops of the integer graph, by backend

"exact" means: compiled, run with every runner of the backend on extreme inputs, and equal to the interpreter.

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
    head, *body = ["| " + " | ".join(row) + " |" for row in cells]
    return "\n".join([head, "|" + "---|" * len(cells[0]), *body])


def support_page() -> str:
    """The whole page."""
    layers = ", ".join(f"`{name}`" for name in sorted(LAYERS))
    table = [["op", "form", *(f"`{name}`" for name in BACKENDS)]]
    for form in FORMS:
        table.append([form.op, form.title, *(answer(name, form) for name in BACKENDS)])
    return HEAD.format(layers=layers) + rows(table) + "\n"


if __name__ == "__main__":
    write_file(PAGE, support_page().encode())

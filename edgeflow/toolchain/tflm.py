"""TFLite-Micro's interpreter from the `tflite-micro` wheel, in a child process that may crash or hang alone."""

from __future__ import annotations

import importlib.util
import io
import os
import re
import sys
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from edgeflow.errors import MissingTool, ToolFailed
from edgeflow.toolchain.process import Finished, Limits, run

Values: TypeAlias = npt.NDArray[np.int8 | np.uint8 | np.int16 | np.int32 | np.float32]
"""What a model takes and gives: the element types of TFLite's tensors."""

SECONDS = 600.0
ARENAS = (1 << 16, 1 << 22, 1 << 28)
"""Bytes to try: a model that does not fit makes the wheel refuse it, or crash."""
_MODULE = "tflite_micro"
_REFUSED = 3
_FIX = "build the folder again; if it still happens, report it with the model and the version of tflite-micro"
_FEWER = "give it fewer samples"
_TOTAL = re.compile(rb"Arena allocation total (\d+) bytes")

# Only NumPy and the wheel. Exit code 3: the interpreter refused the model, perhaps for want of arena.
_CHILD = """
import io, os, sys
answer = os.fdopen(os.dup(1), "wb")
os.dup2(2, 1)
import numpy
from tflite_micro import runtime
model, arena, count = open(sys.argv[1], "rb").read(), int(sys.argv[2]), int(sys.argv[3])
with numpy.load(io.BytesIO(sys.stdin.buffer.read()), allow_pickle=False) as given:
    inputs = [given[f"x{index}"] for index in range(len(given.files))]
try:
    interpreter = runtime.Interpreter.from_bytes(model, arena_size=arena)
except Exception as error:
    print(error, file=sys.stderr)
    raise SystemExit(3)
results = [[] for _ in range(count)]
shapes = [interpreter.get_input_details(index)["shape"] for index in range(len(inputs))]
for sample in range(len(inputs[0])):
    for index, values in enumerate(inputs):
        interpreter.set_input(values[sample].reshape(shapes[index]), index)
    interpreter.invoke()
    for index in range(count):
        results[index].append(interpreter.get_output(index).copy())
interpreter.print_allocations()
packed = io.BytesIO()
numpy.savez(packed, **{f"x{index}": numpy.stack(one) for index, one in enumerate(results)})
answer.write(packed.getvalue())
"""


@dataclass(frozen=True)
class Answer:
    """The outputs, each (samples, *the file's shape), and the arena of this 64-bit build (0 if it does not say)."""

    outputs: tuple[Values, ...]
    arena: int


def require_wheel() -> None:
    """Raises MissingTool when the wheel is not installed."""
    if importlib.util.find_spec(_MODULE) is None:
        raise MissingTool("the tflite-micro wheel is not installed", fix='pip install "edgeflow[tflm]"')


def invoke(
    model: Path, inputs: Sequence[Values], outputs: int, *, arenas: Sequence[int] = ARENAS, seconds: float = SECONDS
) -> Answer:
    """Runs samples through a `.tflite` file. `inputs` are (samples, ...) with the file's number of elements
    a sample, in its element types.

    Tries one arena after the other until the model fits. Raises MissingTool, or ToolFailed when the interpreter
    refuses the model, dies, hangs or answers nonsense.
    """
    require_wheel()
    packed = io.BytesIO()
    np.savez(packed, **{f"x{index}": one for index, one in enumerate(inputs)})  # pyright: ignore[reportArgumentType]
    for arena in arenas[:-1]:
        done = _run(model, packed.getvalue(), arena, outputs, seconds)
        if done.code == 0:
            return _answer(done, outputs, model.name)
    done = _run(model, packed.getvalue(), arenas[-1], outputs, seconds)
    if done.code != 0:
        words = done.last_words(2)
        how = f"died of signal {-done.code}" if done.code < 0 else f"ended with exit code {done.code}"
        what = "refused the model" if done.code == _REFUSED else how
        raise ToolFailed(
            f"the TFLite-Micro wheel {what}" + (f"\n  {words}" if words else ""), where=model.name, fix=_FIX
        )
    return _answer(done, outputs, model.name)


def _run(model: Path, packed: bytes, arena: int, outputs: int, seconds: float) -> Finished:
    argv = [sys.executable, "-P", "-c", _CHILD, str(model.absolute()), str(arena), str(outputs)]
    limits = Limits(seconds=seconds, memory=4 << 30, output=1 << 30)
    try:
        return run(argv, limits, stdin=packed, env={**os.environ, "OPENBLAS_NUM_THREADS": "1"})
    except ToolFailed:
        raise ToolFailed(
            f"the TFLite-Micro wheel did not finish within {seconds:g} s and was stopped", where=model.name, fix=_FEWER
        ) from None


def _answer(done: Finished, outputs: int, where: str) -> Answer:
    found = _TOTAL.search(done.stderr)
    return Answer(_unpack(done.stdout, outputs, where), int(found[1]) if found else 0)


def _unpack(content: bytes, outputs: int, where: str) -> tuple[Values, ...]:
    try:
        with np.load(io.BytesIO(content), allow_pickle=False) as data:
            found = tuple(np.asarray(data[f"x{index}"]) for index in range(outputs))
    except (OSError, ValueError, EOFError, LookupError, zipfile.BadZipFile):
        raise ToolFailed("the TFLite-Micro wheel gave no outputs", where=where, fix=_FIX) from None
    return found

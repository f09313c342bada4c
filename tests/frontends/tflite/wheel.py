"""Runs files in the `tflite-micro` wheel, many in one child process, and compares the imported graph with it."""

from __future__ import annotations

import math
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from edgeflow.frontends.tflite import import_tflite
from edgeflow.frontends.tflite.importer import END_RANGES
from edgeflow.frontends.tflite.model import Tensor, TfliteFile
from edgeflow.ir.graph import Graph
from edgeflow.semantics.interpret import interpret
from tests.frontends.tflite.make import write

Values = npt.NDArray[np.generic]
_DTYPES = {"INT8": np.int8, "UINT8": np.uint8, "INT16": np.int16, "FLOAT32": np.float32}

# Exit code 0, or a signal: then the file whose answer is missing killed it.
_CHILD = """
import pathlib, sys
import numpy
from tflite_micro import runtime
folder, first, last = pathlib.Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
for number in range(first, last):
    with numpy.load(folder / f"{number}.npz") as given:
        inputs = [given[f"x{index}"] for index in range(len(given.files))]
    answer = {}
    (folder / f"{number}.at").touch()
    try:
        interpreter = runtime.Interpreter.from_bytes((folder / f"{number}.tflite").read_bytes(), arena_size=1 << 22)
        results = []
        for sample in range(len(inputs[0])):
            for index, values in enumerate(inputs):
                shape = interpreter.get_input_details(index)["shape"]
                interpreter.set_input(values[sample].reshape(shape), index)
            interpreter.invoke()
            results.append([interpreter.get_output(index).copy() for index in range(int(sys.argv[4 + number - first]))])
        answer = {f"y{index}": numpy.stack(one) for index, one in enumerate(zip(*results))}
    except Exception as error:
        answer = {"refused": numpy.array(str(error))}
    numpy.savez(folder / f"{number}.out.npz", **answer)
"""


@dataclass(frozen=True)
class Answer:
    """A file's outputs, samples first; None for one that the wheel refused, with its words."""

    outputs: tuple[Values, ...] | None
    words: str = ""


def ask_wheel(files: Sequence[bytes], inputs: Sequence[Sequence[Values]], outputs: Sequence[int]) -> list[Answer]:
    """What the wheel answers to each file. `inputs` are (samples, ...) in the file's types."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for number, (content, given) in enumerate(zip(files, inputs, strict=True)):
            (folder / f"{number}.tflite").write_bytes(content)
            np.savez(folder / f"{number}.npz", **{f"x{index}": one for index, one in enumerate(given)})  # pyright: ignore[reportArgumentType]
        answers: list[Answer] = []
        while len(answers) < len(files):
            first = len(answers)
            argv = [sys.executable, "-c", _CHILD, name, str(first), str(len(files)), *map(str, outputs[first:])]
            done = subprocess.run(argv, capture_output=True, check=False, text=True, errors="replace")
            answers += _read(folder, range(first, len(files)))
            if len(answers) < len(files):
                answers.append(Answer(None, f"died with {done.returncode}: {done.stderr[-300:]}"))
        return answers


def _read(folder: Path, numbers: range) -> list[Answer]:
    found: list[Answer] = []
    for number in numbers:
        path = folder / f"{number}.out.npz"
        if not path.exists():
            break
        with np.load(path, allow_pickle=False) as data:
            if "refused" in data.files:
                found.append(Answer(None, str(data["refused"])))
            else:
                found.append(Answer(tuple(data[f"y{index}"] for index in range(len(data.files)))))
    return found


def random_inputs(file: TfliteFile, samples: int, seed: int) -> tuple[Values, ...]:
    """Samples for every input in its own type: random ones, both ends, the zero point, ends at random, near 0."""
    rng = np.random.default_rng(seed)
    return tuple(_inputs(rng, file.tensors[index], samples) for index in file.inputs)


def _inputs(rng: np.random.Generator, tensor: Tensor, samples: int) -> Values:
    kind, shape = tensor.kind, tensor.shape
    dtype = _DTYPES[kind]
    if kind == "FLOAT32":
        return rng.normal(0, 5, (samples, *shape)).astype(np.float32)
    lo, hi = END_RANGES[kind]
    x = rng.integers(lo, hi + 1, (samples, *shape))
    zero = tensor.quantization.zero_points[0] if tensor.quantization else 0
    for index, value in enumerate((lo, hi, zero)[: samples // 2]):
        x[index] = value
    ends, near = x[3 : 3 + samples // 6], x[3 + samples // 6 : 3 + samples // 3]
    ends[...] = np.where(rng.random(ends.shape) < 0.5, lo, hi)
    near[...] = np.clip(rng.integers(-3, 4, near.shape), lo, hi)
    return x.astype(dtype)


def interpreted(graph: Graph, inputs: Sequence[Values]) -> tuple[Values, ...]:
    """The graph's outputs for the file's inputs (integers only)."""
    given = {
        source.name: values.astype(np.int64).reshape(len(values), *source.type.shape)
        for source, values in zip(graph.inputs, inputs, strict=True)
    }
    found, _ = interpret(graph, given)
    return tuple(found[output.name] for output in graph.outputs)


def differences(graph: Graph, inputs: Sequence[Values], answer: Answer) -> int:
    """How many values the graph gives that the wheel does not."""
    assert answer.outputs is not None, answer.words
    ours = interpreted(graph, inputs)
    return sum(
        int((mine.reshape(-1) != theirs.astype(np.int64).reshape(-1)).sum())
        if mine.size == theirs.size
        else math.prod(mine.shape)
        for mine, theirs in zip(ours, answer.outputs, strict=True)
    )


def assert_equal(files: Sequence[TfliteFile], samples: int = 24, seed: int = 0) -> None:
    """Every file is imported, and its graph gives the wheel's bytes on random and extreme inputs."""
    contents = [write(file) for file in files]
    inputs = [random_inputs(file, samples, seed + number) for number, file in enumerate(files)]
    answers = ask_wheel(contents, inputs, [len(file.outputs) for file in files])
    for number, (file, content) in enumerate(zip(files, contents, strict=True)):
        graph = import_tflite(content, f"{file.name}.tflite")
        found = differences(graph, inputs[number], answers[number])
        assert found == 0, f"file {number} ({file.name}): {found} values differ"

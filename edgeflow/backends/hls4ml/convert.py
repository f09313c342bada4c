"""Runs hls4ml in a child process and takes its files: the same layers, the same bytes."""

from __future__ import annotations

import io
import json
import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np

from edgeflow.artifacts import scratch
from edgeflow.backends.hls4ml.layers import HlsLayer
from edgeflow.backends.hls4ml.lower import Lowered
from edgeflow.errors import MissingTool, ToolFailed
from edgeflow.toolchain.process import Limits, run

_CHILD = Path(__file__).with_name("child.py")
_LIMITS = Limits(seconds=300, memory=8 << 30)
_FAILED = 3
_DROPPED = ("hls4ml_config.yml", "build_lib.sh")


@dataclass(frozen=True)
class Variable:
    """A port of the generated C++ function: its name, type, element count, and whether it is a stream."""

    name: str
    type: str
    size: int
    stream: bool
    precision: str


@dataclass(frozen=True)
class Project:
    """What hls4ml wrote, by path, and the variables of its top function in order."""

    files: Mapping[str, bytes]
    inputs: tuple[Variable, ...]
    outputs: tuple[Variable, ...]
    precisions: Mapping[str, str]


def convert(lowered: Lowered, config: Mapping[str, object]) -> Project:
    """hls4ml's project for a lowered graph. Raises MissingTool without hls4ml, ToolFailed when it fails."""
    outputs = list(dict.fromkeys(port.layer for port in lowered.outputs))
    plan, arrays = _plan(lowered.layers)
    text = json.dumps(
        {"config": config, "inputs": [p.layer for p in lowered.inputs], "outputs": outputs, "layers": plan}
    )
    stream = io.BytesIO()
    np.savez(stream, plan=np.frombuffer(text.encode(), dtype=np.uint8), **arrays)
    with scratch() as folder:
        target = folder / "project"
        done = run([sys.executable, "-I", str(_CHILD), str(target)], _LIMITS, cwd=folder, stdin=stream.getvalue())
        if done.code != 0:
            raise _failure(done.code, done.last_words(1))
        found = cast(dict[str, Any], json.loads(done.stdout))
        files = {
            str(path.relative_to(target)): path.read_bytes()
            for path in sorted(target.rglob("*"))
            if path.is_file() and path.name not in _DROPPED
        }
    return Project(
        files=files,
        inputs=tuple(_variable(one) for one in found["inputs"]),
        outputs=tuple(_variable(one) for one in found["outputs"]),
        precisions=cast(Mapping[str, str], found["precisions"]),
    )


def _plan(layers: tuple[HlsLayer, ...]) -> tuple[list[dict[str, object]], dict[str, Any]]:
    plan: list[dict[str, object]] = []
    arrays: dict[str, Any] = {}
    for layer in layers:
        indices: dict[str, int] = {}
        for name, array in layer.arrays.items():
            indices[name] = len(arrays) // 2
            arrays[f"v{indices[name]}"], arrays[f"e{indices[name]}"] = array.integers, array.exponent
        quantizer = None
        if layer.quantizer:
            made = layer.quantizer.format
            integer = made.bits - layer.quantizer.unit
            quantizer = [int(made.signed), made.bits, integer, layer.quantizer.rounding, made.saturation]
        plan.append(
            {
                "name": layer.name,
                "kind": layer.kind,
                "inputs": layer.inputs,
                "shape": layer.shape,
                "fields": dict(layer.fields),
                "arrays": indices,
                "quantizer": quantizer,
            }
        )
    return plan, arrays


def _variable(one: Mapping[str, Any]) -> Variable:
    return Variable(str(one["name"]), str(one["type"]), int(one["size"]), bool(one["stream"]), str(one["precision"]))


def _failure(code: int, words: str) -> MissingTool | ToolFailed:
    missing = re.fullmatch(r"missing: (.*)", words)
    if missing:
        return MissingTool(f"hls4ml is not usable: {missing[1]}", fix="pip install 'edgeflow[hls]'")
    how = words if code == _FAILED and words else f"ended with code {code}"
    return ToolFailed(f"hls4ml could not convert the model: {how}")

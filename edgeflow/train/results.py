"""What a training gives back, and the record beside its file that lets a second run reuse it."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, cast

from edgeflow.artifacts import file_digest, write_json
from edgeflow.train.loop import Epoch


@dataclass(frozen=True)
class LayerSparsity:
    """Zeros among one kernel's weights: in the file, and after quantization (never fewer)."""

    name: str
    weights: int
    zeros: int
    quantized_zeros: int

    @property
    def sparsity(self) -> float:
        """The share of stored zeros."""
        return self.zeros / self.weights


@dataclass(frozen=True)
class TeacherResult:
    """A trained teacher. `accuracy` is on the held-out part; `weight_bits` is parameters times 32."""

    path: Path
    accuracy: float
    parameters: int
    weight_bits: int
    history: tuple[Epoch, ...]
    reused: bool = False


@dataclass(frozen=True)
class StudentResult:
    """A trained student. `weight_bits` is each parameter times its declared width; zeros count as well."""

    path: Path
    accuracy: float
    parameters: int
    weight_bits: int
    layers: tuple[LayerSparsity, ...]
    history: tuple[Epoch, ...]
    reused: bool = False

    @property
    def sparsity(self) -> float:
        """The share of zeros among all kernel weights in the file."""
        return _share([layer.zeros for layer in self.layers], self.layers)

    @property
    def quantized_sparsity(self) -> float:
        """The share of zeros among all kernel weights as integers."""
        return _share([layer.quantized_zeros for layer in self.layers], self.layers)


def _share(zeros: list[int], layers: tuple[LayerSparsity, ...]) -> float:
    weights = sum(layer.weights for layer in layers)
    return sum(zeros) / weights if weights else 0.0


def write_record(result: TeacherResult | StudentResult, fingerprint: str) -> None:
    """Writes `<file>.json` beside the model: the figures, and what they were trained from."""
    fields = asdict(result)
    del fields["path"], fields["reused"]
    write_json(
        result.path.with_suffix(".json"),
        {"fingerprint": fingerprint, "sha256": file_digest(result.path), **fields},
    )


def read_record(path: Path, fingerprint: str) -> Mapping[str, object] | None:
    """The figures beside a model file that was trained from just the same; None when anything differs."""
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
        record = json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))
        if record.pop("fingerprint") == fingerprint and record.pop("sha256") == file_digest(path):
            return record
    return None


def teacher_from(record: Mapping[str, object], path: Path) -> TeacherResult | None:
    """The result that a record holds; None for a record of another form."""
    with contextlib.suppress(TypeError, KeyError, AttributeError):
        return TeacherResult(path=path, reused=True, **_fields(record))  # pyright: ignore[reportArgumentType]
    return None


def student_from(record: Mapping[str, object], path: Path) -> StudentResult | None:
    """The result that a record holds; None for a record of another form."""
    with contextlib.suppress(TypeError, KeyError, AttributeError):
        return StudentResult(path=path, reused=True, **_fields(record))  # pyright: ignore[reportArgumentType]
    return None


def _fields(record: Mapping[str, object]) -> dict[str, object]:
    fields = dict(record)
    for key, kind in (("history", Epoch), ("layers", LayerSparsity)):
        if key in fields:
            fields[key] = tuple(kind(**one) for one in cast(list[dict[str, Any]], fields[key]))
    return fields

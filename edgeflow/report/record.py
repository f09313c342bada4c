"""`run.json`: what was run, on what, with which result. Versioned; everything else is shown from it."""

from __future__ import annotations

import dataclasses
import enum
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, cast

from edgeflow import __version__
from edgeflow.artifacts import write_json
from edgeflow.budget import BudgetLine, Verdict
from edgeflow.conformance import Comparison, Conformance, Mismatch
from edgeflow.errors import EdgeflowError
from edgeflow.resource import MemoryMap, Resource, Source

SCHEMA = 1
NAME = "run.json"
_LARGEST = 16 << 20
_STRICT = {"extra": "forbid"}
_MODELS = frozenset({".tflite", ".keras", ".h5"})
"""What a model's file ends with."""


@dataclass(frozen=True)
class StepRecord:
    """One step of the way: what it made, how accurate, how large. `accuracy` is 0 to 1 on the held-out split."""

    __pydantic_config__: ClassVar[dict[str, str]] = _STRICT
    name: str
    accuracy: float | None = None
    parameters: int | None = None
    weight_bits: int | None = None
    sparsity: float | None = None
    path: str | None = None

    @property
    def known(self) -> bool:
        """Whether there is a figure to show."""
        return any(one is not None for one in (self.accuracy, self.parameters, self.weight_bits, self.sparsity))


@dataclass(frozen=True)
class MismatchRecord:
    """The first difference of a comparison."""

    __pydantic_config__: ClassVar[dict[str, str]] = _STRICT
    layer: str
    sample: int
    element: int
    expected: int
    got: int | None


@dataclass(frozen=True)
class ResourceRecord:
    """A figure with its unit and source; `layer` where it is one layer's."""

    __pydantic_config__: ClassVar[dict[str, str]] = _STRICT
    name: str
    value: float
    unit: str
    source: str
    layer: str | None = None


@dataclass(frozen=True)
class BudgetRecord:
    """A budget line: used of available (null: nothing limits it). `certain`: no error of an estimate turns it."""

    __pydantic_config__: ClassVar[dict[str, str]] = _STRICT
    name: str
    used: float
    available: float | None
    percent: float | None
    unit: str
    fits: bool
    certain: bool
    source: str
    available_source: str | None


@dataclass(frozen=True)
class ComparisonRecord:
    """One runner against the integer graph.

    `tolerated`, `judged`, `unexplained`, `decisions` and `layers` are those of a Comparison.
    """

    __pydantic_config__: ClassVar[dict[str, str]] = _STRICT
    runner: str
    title: str
    samples: int
    values: int
    mismatches: int
    bit_exact: bool
    first_mismatch: MismatchRecord | None = None
    tolerated: int = 0
    judged: bool | None = None
    unexplained: int = 0
    decisions: int = 0
    layers: tuple[str, ...] = ()

    @property
    def agrees(self) -> bool:
        """Whether no more differs than that."""
        return self.mismatches <= self.tolerated and not self.unexplained


@dataclass(frozen=True)
class TargetRecord:
    """One runner of one backend for one board.

    `accuracy` and `mismatches` are those of the graph that the target computes. Where its arithmetic had to
    differ from the model's, `moved` counts the outputs that differ for that, `decisions_moved` the samples whose
    largest output does. `layers`: what each layer contributes, by the estimate. `memory`: RAM over time, where the
    backend plans it. Both stand where `budget` does.
    """

    __pydantic_config__: ClassVar[dict[str, str]] = _STRICT
    board: str
    board_title: str
    backend: str
    runner: str
    title: str
    samples: int
    values: int
    mismatches: int
    bit_exact: bool
    resources: tuple[ResourceRecord, ...]
    fits: bool | None
    path: str
    budget: tuple[BudgetRecord, ...] = ()
    accuracy: float | None = None
    moved: int | None = None
    decisions_moved: int | None = None
    first_mismatch: MismatchRecord | None = None
    layers: tuple[ResourceRecord, ...] = ()
    memory: MemoryMap | None = None


@dataclass(frozen=True)
class RunRecord:
    """A whole run. `reference` is the trained model's own `predict` against the integer graph.

    `edited` names generated files that were changed before they were verified, `skipped` runners that could not run.
    """

    __pydantic_config__: ClassVar[dict[str, str]] = _STRICT
    name: str
    digests: dict[str, str]
    versions: dict[str, str]
    steps: tuple[StepRecord, ...]
    reference: ComparisonRecord | None
    targets: tuple[TargetRecord, ...]
    edited: tuple[str, ...] = ()
    skipped: tuple[str, ...] = ()
    schema: int = SCHEMA
    edgeflow: str = field(default=__version__)

    @property
    def bit_exact(self) -> bool:
        """Whether anything was compared, no target differed, and the model agrees with the graph."""
        exact = all(one.mismatches == 0 for one in self.targets)
        return bool(self.targets) and exact and (self.reference is None or self.reference.agrees)

    @property
    def fits(self) -> bool:
        """Whether every target that was judged fits."""
        return all(one.fits is not False for one in self.targets)


def comparison_record(one: Comparison) -> ComparisonRecord:
    """A comparison as it stands in run.json."""
    return ComparisonRecord(
        one.runner,
        one.title,
        one.samples,
        one.values,
        one.mismatches,
        one.bit_exact,
        _mismatch(one.first),
        one.tolerated,
        one.judged,
        one.unexplained,
        one.decisions,
        one.layers,
    )


def target_records(verdict: Verdict, backend: str, path: str, found: Conformance) -> tuple[TargetRecord, ...]:
    """One entry a runner; the verdict's lines stand at each runner that measured something, else at the last."""
    budget = tuple(budget_record(line) for line in verdict.lines)
    runners = found.comparisons[1:]
    judged = [one for one in runners if one.resources] or list(runners[-1:])
    adapted = found.adaptation
    return tuple(
        TargetRecord(
            board=verdict.board.name,
            board_title=verdict.board.title,
            backend=backend,
            runner=one.runner,
            title=one.title,
            samples=one.samples,
            values=one.values,
            mismatches=one.mismatches,
            bit_exact=one.bit_exact,
            resources=tuple(_resource(figure) for figure in one.resources),
            fits=verdict.fits,
            path=path,
            budget=budget if one in judged else (),
            accuracy=found.accuracy if adapted is None else found.adapted_accuracy,
            moved=None if adapted is None else adapted.moved,
            decisions_moved=None if adapted is None else adapted.decisions,
            first_mismatch=_mismatch(one.first),
            layers=tuple(_resource(part) for part in verdict.parts) if one in judged else (),
            memory=verdict.memory if one in judged else None,
        )
        for one in runners
    )


def budget_record(line: BudgetLine) -> BudgetRecord:
    """A budget line as it stands in run.json."""
    return BudgetRecord(
        name=line.name,
        used=line.used,
        available=line.available,
        percent=line.percent,
        unit=line.unit.value,
        fits=line.fits,
        certain=line.certain,
        source=str(line.source),
        available_source=line.available_source,
    )


def write_record(folder: Path, record: RunRecord) -> Path:
    """Writes `run.json` whole."""
    path = folder / NAME
    write_json(path, to_json(record))
    return path


def to_json(value: Any) -> Any:
    """Dataclasses, enums, paths and sources as plain JSON values."""
    if isinstance(value, Source):
        return str(value)
    if isinstance(value, enum.Enum):
        return value.value
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {one.name: to_json(getattr(value, one.name)) for one in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(key): to_json(one) for key, one in cast(Mapping[object, object], value).items()}
    if isinstance(value, tuple | list):
        return [to_json(one) for one in cast(tuple[object, ...], value)]
    return str(value) if isinstance(value, Path) else value


def read_record(folder: Path) -> RunRecord:
    """Reads `run.json` in a folder (or the file itself). Raises EdgeflowError when there is none or it is damaged."""
    from pydantic import TypeAdapter, ValidationError

    path = folder / NAME if folder.is_dir() else folder
    if path.suffix in _MODELS and path.is_file():
        raise EdgeflowError(
            "is a model, and no run of one",
            where=str(path),
            fix=f"edgeflow build and verify make a folder with a {NAME}",
        )
    try:
        if path.stat().st_size > _LARGEST:
            raise ValueError("larger than 16 MiB")
        data = json.loads(path.read_text(encoding="utf-8"))
        version = data["schema"]
        if version != SCHEMA:
            raise ValueError(f"version {version}, this edgeflow reads {SCHEMA}")
        return TypeAdapter(RunRecord).validate_python(data)
    except FileNotFoundError:
        raise EdgeflowError(
            f"no {NAME} here, so nothing to report", where=str(folder), fix="edgeflow verify or edgeflow run writes it"
        ) from None
    except ValidationError as error:
        first = error.errors()[0]
        at = ".".join(str(part) for part in first["loc"])
        raise EdgeflowError(f"damaged {NAME}: {at}: {first['msg']}", where=str(path), fix="run it again") from None
    except UnicodeDecodeError:
        raise EdgeflowError(
            f"is no {NAME}", where=str(path), fix="give the folder of edgeflow run, or one that was verified"
        ) from None
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise EdgeflowError(f"damaged {NAME}: {error}", where=str(path), fix="run it again") from None


def _mismatch(one: Mismatch | None) -> MismatchRecord | None:
    return None if one is None else MismatchRecord(one.layer, one.sample, one.element, one.expected, one.got)


def _resource(one: Resource) -> ResourceRecord:
    return ResourceRecord(one.name, one.value, one.unit.value, str(one.source), one.layer)

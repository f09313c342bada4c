"""What `edgeflow.toml` says: data, teacher, student, recipe, targets and budget, as frozen dataclasses."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar, TypeAlias

from edgeflow.errors import EdgeflowError, did_you_mean
from edgeflow.settings import Location, convert, line_of, read_text, section_of
from edgeflow.units import Bytes, Seconds, parse_bytes, parse_seconds

_STRICT = {"extra": "forbid"}
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_FUNCTION = re.compile(r"[^:]+\.py:[A-Za-z_][A-Za-z0-9_]*")
_BUILTIN = ("digits",)

Option: TypeAlias = int | str | bool


@dataclass(frozen=True)
class Data:
    """`[data]`: "digits" (scikit-learn's), an .npz file, or "file.py:function"."""

    __pydantic_config__: ClassVar[dict[str, str]] = _STRICT
    source: str


@dataclass(frozen=True)
class Training:
    """How long and how fast one model learns: Adam, the learning rate falling to zero along a cosine."""

    __pydantic_config__: ClassVar[dict[str, str]] = _STRICT
    model: str
    epochs: int = 20
    batch: int = 32
    learning_rate: float = 0.002


@dataclass(frozen=True)
class Distill:
    """`[distill]`: soft * T^2 * KL(teacher at temperature T, student at T) + hard * cross-entropy on the labels.

    `mixed` adds that many blends of two samples for each training sample; the teacher says what they are.
    """

    __pydantic_config__: ClassVar[dict[str, str]] = _STRICT
    temperature: float = 4.0
    soft: float = 0.7
    hard: float = 0.3
    mixed: int = 0


@dataclass(frozen=True)
class Prune:
    """`[prune]`: the share of zero weights in each kernel, reached along a cubic from epoch `begin` to `end`.

    `layers` gives single layers another share; 0 leaves a layer whole.
    """

    __pydantic_config__: ClassVar[dict[str, str]] = _STRICT
    sparsity: float
    begin: int = 0
    end: int | None = None
    layers: dict[str, float] = field(default_factory=dict[str, float])


@dataclass(frozen=True)
class Width:
    """A fixed-point format: `bits` in all, `integer` of them left of the point (a sign bit not counted)."""

    __pydantic_config__: ClassVar[dict[str, str]] = _STRICT
    bits: int
    integer: int = 0


@dataclass(frozen=True)
class InputWidth:
    """The input's format: as `Width`; `signed` says whether one of its bits is a sign."""

    __pydantic_config__: ClassVar[dict[str, str]] = _STRICT
    bits: int
    integer: int = 0
    signed: bool = True


@dataclass(frozen=True)
class LayerWidths:
    """`[quantize.layers.<name>]`: what differs for one layer."""

    __pydantic_config__: ClassVar[dict[str, str]] = _STRICT
    weights: Width | None = None
    biases: Width | None = None
    activations: Width | None = None


@dataclass(frozen=True)
class Quantize:
    """`[quantize]`: the formats of every layer, and of single layers by name.

    A relu's `activations` have no sign bit; those of a linear layer have one. With `tie_free`, no rounding meets a
    value half-way between two results, so all targets agree on every one: a bias then gets one fractional bit more than
    its layer's products and only odd codes; of `biases`, only `integer` counts.
    """

    __pydantic_config__: ClassVar[dict[str, str]] = _STRICT
    input: InputWidth
    weights: Width
    biases: Width
    activations: Width
    tie_free: bool = False
    layers: dict[str, LayerWidths] = field(default_factory=dict[str, LayerWidths])


@dataclass(frozen=True)
class Target:
    """`[[targets]]`: a board, the backend that makes its code, and that backend's options."""

    __pydantic_config__: ClassVar[dict[str, str]] = _STRICT
    board: str
    backend: str = "c"
    options: dict[str, Option] = field(default_factory=dict[str, Option])


@dataclass(frozen=True)
class Budget:
    """`[budget]`: limits tighter than the board's own, as text such as "50 ms" or "32 kB"."""

    __pydantic_config__: ClassVar[dict[str, str]] = _STRICT
    latency: str | None = None
    ram: str | None = None
    flash: str | None = None

    @property
    def latency_seconds(self) -> Seconds | None:
        """The longest time that one inference may take."""
        return None if self.latency is None else parse_seconds(self.latency)

    @property
    def ram_bytes(self) -> Bytes | None:
        """The most RAM that the model may use."""
        return None if self.ram is None else parse_bytes(self.ram)

    @property
    def flash_bytes(self) -> Bytes | None:
        """The most flash that the model may use."""
        return None if self.flash is None else parse_bytes(self.flash)


@dataclass(frozen=True)
class _File:
    """The file's own keys, in the order in which problems are looked for."""

    __pydantic_config__: ClassVar[dict[str, str]] = _STRICT
    name: str
    data: Data
    student: Training
    targets: tuple[Target, ...]
    seed: int = 0
    output: str | None = None
    teacher: Training | None = None
    distill: Distill | None = None
    prune: Prune | None = None
    quantize: Quantize | None = None
    budget: Budget = field(default_factory=Budget)


@dataclass(frozen=True)
class Config:
    """A whole `edgeflow.toml`. `path` is the file, `folder` where its relative paths start.

    Without a teacher the student learns from the labels alone. Without `quantize` the student's
    function must return a QKeras model.
    """

    path: Path
    name: str
    seed: int
    output: Path
    data: Data
    teacher: Training | None
    student: Training
    distill: Distill | None
    prune: Prune | None
    quantize: Quantize | None
    targets: tuple[Target, ...]
    budget: Budget

    @property
    def folder(self) -> Path:
        """The folder of the TOML file."""
        return self.path.parent

    def resolve(self, relative: str) -> Path:
        """A path of the file, relative to the file's folder."""
        return self.folder / relative

    def error(self, key: Location, what: str, fix: str | None = None) -> EdgeflowError:
        """An error at a key of this file: `edgeflow.toml:12: ...`. Reads the file again for the line."""
        try:
            line = line_of(read_text(self.path), key)
        except EdgeflowError:
            return EdgeflowError(what, where=str(self.path), fix=fix)
        return EdgeflowError(what, where=f"{self.path}:{line}", fix=fix)


@dataclass(frozen=True)
class _Problem:
    key: Location
    what: str
    fix: str


def load_config(path: Path) -> Config:
    """Reads and checks an `edgeflow.toml`.

    Raises EdgeflowError with the file, the line and the fix when it cannot be read, holds an unknown key,
    a wrong type or a value out of range.
    """
    text = read_text(path)
    return parse_config(text, path)


def parse_config(text: str, path: Path) -> Config:
    """TOML text into a checked Config; `path` names the file and need not exist."""
    file = convert(text, _File, str(path))
    problem = next(_problems(file), None)
    if problem is not None:
        where = f"{path}:{line_of(text, problem.key)}"
        raise EdgeflowError(problem.what, where=where, fix=problem.fix)
    return Config(
        path=path,
        name=file.name,
        seed=file.seed,
        output=path.parent / (file.output or f"build/{file.name}"),
        data=file.data,
        teacher=file.teacher,
        student=file.student,
        distill=file.distill or (Distill() if file.teacher else None),
        prune=file.prune,
        quantize=file.quantize,
        targets=file.targets,
        budget=file.budget,
    )


def _problems(file: _File) -> Iterator[_Problem]:
    if not _NAME.fullmatch(file.name):
        yield _Problem(
            ("name",), f'name "{file.name}" cannot name a folder', "use letters, digits, dots, dashes and underscores"
        )
    yield from _range(("seed",), file.seed, 0, 2**32 - 1)
    yield from _data_problems(file.data)
    if file.teacher is not None:
        yield from _training_problems("teacher", file.teacher)
    yield from _training_problems("student", file.student)
    yield from _distill_problems(file)
    if file.prune is not None:
        yield from _prune_problems(file.prune, file.student.epochs)
    if file.quantize is not None:
        yield from _quantize_problems(file.quantize)
    yield from _target_problems(file.targets)
    yield from _budget_problems(file.budget)


def _data_problems(data: Data) -> Iterator[_Problem]:
    source = data.source
    if source in _BUILTIN or source.endswith(".npz") or _FUNCTION.fullmatch(source):
        return
    yield _Problem(
        ("data", "source"),
        f'unknown data source "{source}"{did_you_mean(source, _BUILTIN)}',
        'use "digits", an .npz file, or a function as "data.py:load"',
    )


def _training_problems(table: str, training: Training) -> Iterator[_Problem]:
    if not _FUNCTION.fullmatch(training.model):
        yield _Problem(
            (table, "model"),
            f'"{training.model}" in [{table}] does not name a function',
            f'write a Python file and a function in it, as "models.py:{table}"',
        )
    yield from _range((table, "epochs"), training.epochs, 1, 100_000)
    yield from _range((table, "batch"), training.batch, 1, 1 << 20)
    if not 0 < training.learning_rate <= 10:
        yield _Problem(
            (table, "learning_rate"),
            f"learning_rate in [{table}] is {training.learning_rate:g}; it must be above 0, up to 10",
            "0.002 is a good start",
        )


def _distill_problems(file: _File) -> Iterator[_Problem]:
    distill = file.distill
    if distill is None:
        return
    if file.teacher is None:
        yield _Problem(("distill",), "[distill] needs a teacher", "add a [teacher] table, or remove [distill]")
    if not 0 < distill.temperature <= 1000:
        yield _Problem(
            ("distill", "temperature"),
            f"temperature in [distill] is {distill.temperature:g}; it must be above 0, up to 1000",
            "2 to 8 are usual",
        )
    for name, weight in (("soft", distill.soft), ("hard", distill.hard)):
        if not 0 <= weight <= 1000:
            yield _Problem(
                ("distill", name),
                f"{name} in [distill] is {weight:g}; it must be from 0 to 1000",
                "0.7 and 0.3 are usual",
            )
    yield from _range(("distill", "mixed"), distill.mixed, 0, 100)
    if distill.soft == 0 and distill.hard == 0:
        yield _Problem(
            ("distill", "soft"),
            "soft and hard in [distill] are both 0, so nothing would be learned",
            "raise one of them",
        )


def _prune_problems(prune: Prune, epochs: int) -> Iterator[_Problem]:
    shares: Mapping[Location, float] = {
        ("prune", "sparsity"): prune.sparsity,
        **{("prune", "layers", name): share for name, share in prune.layers.items()},
    }
    for key, share in shares.items():
        if not 0 <= share < 1:
            yield _Problem(
                key,
                f"{key[-1]}{section_of(key)} is {share:g}; a sparsity must be from 0 to below 1",
                "0.5 makes half of the weights zero",
            )
    yield from _range(("prune", "begin"), prune.begin, 0, epochs - 1)
    if prune.end is not None:
        yield from _range(("prune", "end"), prune.end, prune.begin, epochs - 1)


def _quantize_problems(quantize: Quantize) -> Iterator[_Problem]:
    formats: dict[Location, Width | InputWidth | None] = {
        ("quantize", "input"): quantize.input,
        ("quantize", "weights"): quantize.weights,
        ("quantize", "biases"): quantize.biases,
        ("quantize", "activations"): quantize.activations,
    }
    for name, layer in quantize.layers.items():
        formats["quantize", "layers", name, "weights"] = layer.weights
        formats["quantize", "layers", name, "biases"] = layer.biases
        formats["quantize", "layers", name, "activations"] = layer.activations
        if layer == LayerWidths():
            yield _Problem(
                ("quantize", "layers", name),
                f"[quantize.layers.{name}] is empty",
                "give it weights, biases or activations, or remove it",
            )
    for key, width in formats.items():
        if width is not None:
            least = 1 if key[-1] in ("input", "activations") else 2
            yield from _range((*key, "bits"), width.bits, least, 16)
            yield from _range((*key, "integer"), width.integer, -16, 16)


def _target_problems(targets: tuple[Target, ...]) -> Iterator[_Problem]:
    if not targets:
        yield _Problem(("targets",), "no target", 'add [[targets]] with board = "nucleo-f446re"')
    seen: dict[str, int] = {}
    for index, target in enumerate(targets):
        identity = repr((target.board, target.backend, sorted(target.options.items())))
        if identity in seen:
            yield _Problem(
                ("targets", index),
                f'board "{target.board}" with backend "{target.backend}" is listed twice in [[targets]]',
                "remove one, or give it other options",
            )
        seen[identity] = index


def _budget_problems(budget: Budget) -> Iterator[_Problem]:
    readers: tuple[tuple[str, str | None, Callable[[str], float]], ...] = (
        ("latency", budget.latency, parse_seconds),
        ("ram", budget.ram, parse_bytes),
        ("flash", budget.flash, parse_bytes),
    )
    for name, text, parse in readers:
        if text is None:
            continue
        try:
            amount = parse(text)
        except ValueError as error:
            yield _Problem(("budget", name), f"{name} in [budget]: {error}", "write a number and a unit")
            continue
        if amount <= 0:
            yield _Problem(
                ("budget", name), f"{name} in [budget] is zero", "give an amount above 0, or remove the line"
            )


def _range(key: Location, value: int, low: int, high: int) -> Iterator[_Problem]:
    if not low <= value <= high:
        yield _Problem(
            key,
            f"{key[-1]}{section_of(key)} is {value}; it must be from {low} to {high}",
            f"choose {key[-1]} in that range",
        )

"""Layer functions as text: layers whose functions differ in their tables alone share one, which takes the tables."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from edgeflow.backends.c.kernel import Kernel
from edgeflow.render import render


@dataclass(frozen=True)
class Parameter:
    """A table or a record that a shared function takes: its C type, and the name that it has inside."""

    ctype: str
    name: str


@dataclass(frozen=True)
class Function:
    """The function of one or more layers, under the name of the first; `parameters` only where there are more."""

    kernels: tuple[Kernel, ...]
    parameters: tuple[Parameter, ...]
    body: str

    @property
    def name(self) -> str:
        """The C identifier."""
        return self.kernels[0].name

    def tables(self, kernel: Kernel) -> tuple[str, ...]:
        """What a call for one of the layers passes: an expression for each parameter."""
        return tuple(one.expression for one in _operands(kernel)) if self.parameters else ()


def functions_of(kernels: Sequence[Kernel]) -> Mapping[str, Function]:
    """The function of each layer, by the kernel's name, in the order in which they are first needed."""
    alike: dict[object, list[Kernel]] = {}
    for kernel in kernels:
        alike.setdefault(_likeness(kernel), []).append(kernel)
    found: dict[str, Function] = {}
    for members in alike.values():
        function = _function(tuple(members))
        found.update((kernel.name, function) for kernel in members)
    return found


def _function(kernels: tuple[Kernel, ...]) -> Function:
    first = kernels[0]
    if len(kernels) == 1:
        return Function(kernels, (), _body(first))
    return Function(kernels, _parameters(first), _with_parameters(first))


def with_tables(kernel: Kernel) -> Function:
    """The function of a layer that others shall call: it takes every table and record that it reads."""
    return Function((kernel,), _parameters(kernel), _with_parameters(kernel))


def _likeness(kernel: Kernel) -> object:
    """What layers that share a function have in common: all that is called and read, and all that is done."""
    operands = tuple(one.ctype.name for one in (*kernel.inputs, kernel.y))
    return operands, kernel.by_rows, kernel.scratch > 0, _parameters(kernel), _with_parameters(kernel)


@dataclass(frozen=True)
class _Operand:
    """A table or a record that the function of a layer names itself, as C has it, and the parameter for it."""

    expression: str
    parameter: Parameter


def _operands(kernel: Kernel) -> tuple[_Operand, ...]:
    body = _body(kernel)
    tables = [(one.name, one.ctype.name, one.name) for one in kernel.tables]
    records = [(f"&{one.name}", one.ctype, one.name) for one in kernel.records]
    return tuple(
        _Operand(expression, Parameter(ctype, f"own_{name.removeprefix(kernel.name + '_')}"))
        for expression, ctype, name in (*tables, *records)
        if _named(expression).search(body)
    )


def _named(expression: str) -> re.Pattern[str]:
    return re.compile(rf"(?<!\w){re.escape(expression)}\b")


def _parameters(kernel: Kernel) -> tuple[Parameter, ...]:
    return tuple(one.parameter for one in _operands(kernel))


def _body(kernel: Kernel) -> str:
    return render(f"c/ops/{kernel.template}.c.j2", s=kernel)


def _with_parameters(kernel: Kernel) -> str:
    """The body with its tables and records under their parameters' names."""
    body = _body(kernel)
    for one in _operands(kernel):
        body = _named(one.expression).sub(one.parameter.name, body)
    return body

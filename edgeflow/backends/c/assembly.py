"""Functions of the generated C that are assembly on some cores, and plain C on all others."""

from __future__ import annotations

from collections.abc import Sequence


def function(guard: str, name: str, parameters: Sequence[str], statement: Sequence[str], twin: Sequence[str]) -> str:
    """The C text of a static function: the lines of an `__asm__` statement where `guard` holds, else its twin's."""
    unused = ",\n    ".join(f"__attribute__((unused)) {one}" for one in parameters)
    lines = [
        f"#if {guard}",
        "/* noipa: the compiler must conclude nothing about arguments and registers from a body without C. */",
        "__attribute__((naked, noipa))",
        f"static void {name}(\n    {unused})",
        "{",
        *statement,
        "}",
        "#else",
        f"static void {name}({', '.join(parameters)})",
        "{",
        *twin,
        "}",
        "#endif",
    ]
    return "\n".join(lines) + "\n"

"""The errors a user can meet: what happened, where, and how to fix it."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class EdgeflowError(Exception):
    """A failure that the user can act on. Printed without a traceback, exit code 2.

    `what` is one sentence; `where` names the Keras layer, board key or `file:line`;
    `fix` says what to do next.
    """

    exit_code = 2
    quotes_a_tool = False
    """Whether `what` may hold several lines: a tool's own last words."""

    def __init__(self, what: str, *, where: str | None = None, fix: str | None = None) -> None:
        super().__init__(what)
        self.what = "\n".join(printable(line) for line in what.split("\n")) if self.quotes_a_tool else printable(what)
        self.where = None if where is None else printable(where)
        self.fix = None if fix is None else printable(fix)

    def __str__(self) -> str:
        head = f"{self.where}: {self.what}" if self.where else self.what
        return f"{head}\n  fix: {self.fix}" if self.fix else head


class MissingTool(EdgeflowError):
    """A program that edgeflow calls is not installed."""


class ToolFailed(EdgeflowError):
    """A program that edgeflow called failed, hung, or was stopped by its limits."""

    quotes_a_tool = True


class DoesNotFit(EdgeflowError):
    """The answer is no: what was built exceeds the board. Exit code 1."""

    exit_code = 1


class InvalidGraph(EdgeflowError):
    """The integer graph breaks one of its own rules: an edgeflow bug or a damaged file."""


class Unsupported(EdgeflowError):
    """A model asks for something that edgeflow cannot do exactly, and therefore refuses."""


def printable(text: str) -> str:
    """`text` on one line: whatever a terminal would obey (control codes, line ends) becomes a mark."""
    return "".join(letter if letter.isprintable() else "\N{REPLACEMENT CHARACTER}" for letter in text)


def near(word: str, known: Iterable[str]) -> str | None:
    """The known word closest to a misspelt one, if any is close."""
    found = difflib.get_close_matches(word, list(known), n=1, cutoff=0.6)
    return found[0] if found else None


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """`; did you mean "x"?` for a near word, else an empty string."""
    found = near(word, known)
    return f'; did you mean "{found}"?' if found else ""

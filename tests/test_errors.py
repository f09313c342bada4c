"""An error is one to three lines, whatever names it quotes."""

from __future__ import annotations

from edgeflow.errors import EdgeflowError, ToolFailed, did_you_mean, near


def test_what_where_and_fix_have_their_places() -> None:
    assert str(EdgeflowError("it broke")) == "it broke"
    assert str(EdgeflowError("it broke", where="a.toml:3", fix="mend it")) == "a.toml:3: it broke\n  fix: mend it"


def test_names_with_line_ends_and_terminal_codes_stay_on_their_line() -> None:
    error = EdgeflowError("layer 'a\nb'", where="layer '\x1b[31mred'", fix="rename '\r'")
    assert str(error) == "layer '\ufffd[31mred': layer 'a\ufffdb'\n  fix: rename '\ufffd'"


def test_only_a_tools_last_words_have_lines_of_their_own() -> None:
    assert str(ToolFailed("gcc failed\n  no\x07 space")) == "gcc failed\n  no\ufffd space"


def test_near_words() -> None:
    assert near("sparcity", ["sparsity", "begin"]) == "sparsity"
    assert did_you_mean("sparcity", ["sparsity"]) == '; did you mean "sparsity"?'
    assert did_you_mean("zzz", ["sparsity"]) == ""

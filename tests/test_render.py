"""No name from a model leaves its comment, string or identifier."""

from __future__ import annotations

import re
import tomllib

from hypothesis import given
from hypothesis import strategies as st

from edgeflow.render import Identifiers, comment, identifier, quoted, toml_string

TEXT = st.text(max_size=80)


def test_trigraphs_are_taken_apart() -> None:
    assert comment("what???/") == "what? ? ?/"


def test_identifiers_resemble_their_names() -> None:
    assert identifier("conv_1/Kernel:0") == "conv_1_kernel_0"
    assert identifier("größe") == "groe"
    assert identifier("模型") == "n"
    assert identifier("3x3") == "n_3x3"
    assert identifier("int") == "int_"


@given(TEXT)
def test_an_identifier_is_one_whatever_the_name(name: str) -> None:
    assert re.fullmatch(r"[a-z][a-z0-9_]{0,50}", identifier(name))


@given(st.lists(TEXT, max_size=20))
def test_identifiers_never_repeat(names: list[str]) -> None:
    given_out = Identifiers()
    found = {name: given_out.of(name) for name in names}
    assert len(set(found.values())) == len(found)
    assert all(given_out.of(name) == one for name, one in found.items())


@given(TEXT)
def test_a_comment_stays_a_comment(text: str) -> None:
    safe = comment(text)
    assert "*/" not in safe
    assert "\\" not in safe
    assert "\n" not in safe
    assert "??" not in safe
    assert safe.isascii()


@given(TEXT)
def test_a_quoted_text_is_one_c_string(text: str) -> None:
    assert re.fullmatch(r'"([^"\\\n]|\\")*"', quoted(text))


@given(st.text(alphabet=st.characters(exclude_categories=["Cs"], max_codepoint=0xFFFF), max_size=60))
def test_a_toml_string_reads_back(text: str) -> None:
    assert tomllib.loads(f"x = {toml_string(text)}")["x"] == text

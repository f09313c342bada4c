"""docs/generated-c.md is what the generator and the checks say."""

from __future__ import annotations

from tests.generated import PAGE, page


def test_the_page_of_the_generated_c_is_what_the_generator_says() -> None:
    assert PAGE.read_text() == page(), "make docs writes it anew"

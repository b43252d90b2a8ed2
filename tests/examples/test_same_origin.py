"""Where a sign-in may lead to."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from same_origin import safe_next


@pytest.mark.parametrize("path", ["/", "/notes", "/notes?before=12", "/devices?done=ended", "/a/b%20c/~d?e=%2F&f=+"])
def test_paths_of_this_site_are_gone_to(path: str) -> None:
    assert safe_next(path) == path


@pytest.mark.parametrize(
    "wanted",
    [
        None,
        "",
        "notes",
        "https://evil.example",
        "https:evil.example",
        "//evil.example",
        "///evil.example",
        "/\\evil.example",
        "\\\\evil.example",
        "/\t/evil.example",
        "/\n/evil.example",
        "\t//evil.example",
        " //evil.example",
        "/notes\n",
        "/notes\r\nSet-Cookie: a=b",
        "/ /evil.example",
        "javascript:alert(1)",
        "data:text/html,x",
        "/@evil.example\\@",
        "/notes#//evil.example",
        "/nötes",
        "/\u2215/evil.example",
        "/" + "a" * 512,
    ],
)
def test_everything_else_leads_to_the_notes(wanted: str | None) -> None:
    assert safe_next(wanted) == "/notes"


@given(st.text(alphabet="/\\.:@?#%\t\n\r evil", max_size=12))
def test_what_is_let_through_has_one_slash_at_its_start_and_nothing_a_browser_reads_as_another(wanted: str) -> None:
    path = safe_next(wanted)
    assert path.startswith("/")
    assert not path.startswith("//")
    assert not set(path) & set("\\\t\n\r #@:")

"""Views as they are written: what parses, and to what."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from pipeline.declaring.document import Document
from pipeline.declaring.views import Term, View, parse
from pipeline.errors import ConfigError

INSTANCES = {"a": ("a",), "b": ("b",), "f": ("f[x]", "f[y]"), "f[x]": ("f[x]",)}


def view(value: Any) -> View:
    return parse(value, ("here",), Document(Path("p.yaml"), value), lambda name, place: INSTANCES[name])


def where(text: str) -> tuple[Term, ...]:
    return view({"of": "a", "where": text}).where


def test_names_lists_and_mappings_are_views() -> None:
    assert view("f") == View(nodes=("f[x]", "f[y]"))
    assert view(["a", "f[x]"]) == View(parts=(View(nodes=("a",)), View(nodes=("f[x]",))))
    assert view({"of": "a", "take": 3}) == View(parts=(View(nodes=("a",)),), take=3)
    assert view({"of": "a", "balance": "label"}) == View(parts=(View(nodes=("a",)),), balance=True)
    paired = view({"of": "a", "pair": "b", "on": "group"})
    assert (paired.pair, paired.on) == (View(nodes=("b",)), "group")


def test_references_name_every_node_at_every_depth() -> None:
    nested = {"of": ["a", {"of": "f", "where": "label = fake"}], "pair": {"of": "b", "take": 1}}
    assert view(nested).references() == {"a", "b", "f[x]", "f[y]"}


@pytest.mark.parametrize(
    ("text", "terms"),
    [
        ("label = fake", [("label", ("fake",), False)]),
        ("label==real", [("label", ("real",), False)]),
        ("split != test", [("split", ("test",), True)]),
        ("split in [train, val]", [("split", ("train", "val"), False)]),
        ("split not in [train,val]", [("split", ("train", "val"), True)]),
        ("source = fakes[progan-raw]", [("source", ("fakes[progan-raw]",), False)]),
        ("source in [fakes[progan-raw], photos]", [("source", ("fakes[progan-raw]", "photos"), False)]),
        ("source in [photos, 'fakes[progan-raw]']", [("source", ("photos", "fakes[progan-raw]"), False)]),
        ("domain = 'churches'", [("domain", ("churches",), False)]),
        ("domain in ['salt and pepper']", [("domain", ("salt and pepper",), False)]),
        ("domain in ['salt and pepper', \"a, b\", c] and label = real",
         [("domain", ("salt and pepper", "a, b", "c"), False), ("label", ("real",), False)]),
        ("domain = 'label = fake'", [("domain", ("label = fake",), False)]),
        ("domain != \"it's\" and group = 'it\'\'s ]['", [("domain", ("it's",), True), ("group", ("it's ][",), False)]),
        ("domain = and and group in [in,not, and]",
         [("domain", ("and",), False), ("group", ("in", "not", "and"), False)]),
        ("  label=fake   and\tsplit  not   in [ train , val ]  ",
         [("label", ("fake",), False), ("split", ("train", "val"), True)]),
        ("source in ['fakes[a, b]', fakes[c d]]", [("source", ("fakes[a, b]", "fakes[c d]"), False)]),
        ("domain = ''", [("domain", ("",), False)]),
        ("label = fake and split = test and domain != cats",
         [("label", ("fake",), False), ("split", ("test",), False), ("domain", ("cats",), True)]),
    ],
)  # fmt: skip
def test_conditions_are_terms_joined_by_and(text: str, terms: list[tuple[Any, ...]]) -> None:
    assert where(text) == tuple(Term(*term) for term in terms)


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("", "a field at the end"),
        ("label", "=, !=, in or not in at the end"),
        ("label = ", "a value at the end"),
        ("label fake", "=, !=, in or not in at 'fake'"),
        ("label = fake or split = test", "'and' or the end at 'or split = test'"),
        ("label = a b", "'and' or the end at 'b'"),
        ("label = fake and", "'and' or the end at 'and'"),
        ("label = fake and ", "a field at the end"),
        ("domain = salt and pepper", "=, !=, in or not in at the end"),
        ("domain in [salt and pepper]", "a comma or ] at 'and pepper]'"),
        ("domain in []", "a value at ']'"),
        ("domain in [a,]", "a value at ']'"),
        ("domain in [a", "a comma or ] at the end"),
        ("domain = 'a", 'a value at "\'a"'),
        ("domain in [a] b", "'and' or the end at 'b'"),
        ("label = fake and label = = real", "a value at '= real'"),
    ],
)
def test_what_is_no_condition_is_refused_with_the_place(text: str, place: str) -> None:
    with pytest.raises(ConfigError, match=r"here\.where has .*; expected FIELD = VALUE, .*: " + re.escape(place) + "$"):
        where(text)


@pytest.mark.parametrize("text", ["domain in a", "domain = [a]", "domain != [a, b]"])
def test_lists_belong_to_in(text: str) -> None:
    with pytest.raises(ConfigError, match=r"has '.*'; 'in' wants a list \[A, B\], '=' one value"):
        where(text)


def test_rows_are_balanced_by_label_only() -> None:
    with pytest.raises(ConfigError, match=r"balance is 'domain'; rows are balanced by label"):
        view({"of": "a", "balance": "domain"})

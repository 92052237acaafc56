"""One spelling for words that look alike: names of groups, domains and splits come from hands, tables and file names.

Two spellings of one person that differ by a space, by a Unicode normal form (macOS writes names decomposed) or by a
character that nobody sees would be two groups, and one of them could stand in train and the other in test.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from functools import lru_cache

from pipeline.sentences import counted

_INVISIBLE = re.compile(
    "[\\0-\x08\x0e-\x1b\x7f-\x84\x86-\x9f\xad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u202a-\u202e"
    "\u2060-\u206f\u3164\ufe00-\ufe0f\ufeff\uffa0\ufff0-\ufff8\U0001bca0-\U0001bca3\U0001d173-\U0001d17a"
    "\U000e0000-\U000e0fff]"
)
"""Control characters that are no white space, and Unicode's Default_Ignorable_Code_Point."""

_UNUSUAL = ("  ", "\0 ", " \0", "/ ", " /")
"""White space that a normalized word does not have; a zero byte stands where it begins or ends."""


def normalized(word: str) -> str:
    """`word` without invisible characters, in normal form NFC, its white space single spaces, none beside "/" or ends.

    Case is kept. The result of a normalized word is itself.
    """
    if usual((word,)):
        return word
    visible = unicodedata.normalize("NFC", _INVISIBLE.sub("", word))
    return "/".join(" ".join(part.split()) for part in visible.split("/"))


def spellings(words: Iterable[str]) -> Mapping[str, str]:
    """Each distinct word -> its normal form, at the cost of one look where all are normalized already."""
    distinct = dict.fromkeys(words)
    if usual(distinct):
        return dict(zip(distinct, distinct, strict=True))
    return {word: normalized(word) for word in distinct}


def usual(words: Collection[str]) -> bool:
    """Whether all words are printable ASCII and normalized already: cheap, a few looks at all of them at once."""
    plain = "".join(words)
    if not plain.isascii() or not plain.isprintable():
        return False
    joined = "\0".join(("", *words, ""))
    return not any(text in joined for text in _UNUSUAL)


def remarks(words: Sequence[str], normal: Mapping[str, str], kind: str) -> list[str]:
    """Sentences on words that count as one although they were written differently, and on those that nearly do.

    kind  what a word names, e.g. "group"
    """
    forms = set(normal.values())
    return [*(_merged(words, normal, kind) if len(forms) < len(normal) else ()), *_alike(forms, kind)]


def _merged(words: Sequence[str], normal: Mapping[str, str], kind: str) -> list[str]:
    variants: dict[str, list[str]] = {}
    for word, form in normal.items():
        variants.setdefault(form, []).append(word)
    several = [found for found in variants.values() if len(found) > 1]
    counts = Counter(words)
    example = " = ".join(f"{word!a} ({counted(counts[word], 'row')})" for word in several[0])
    verb, each = ("are", "count as one each") if len(several) > 1 else ("is", "counts as one")
    return [f"{counted(len(several), kind)} {verb} written in several ways that look alike and {each}, e.g. {example}"]


def _alike(words: Collection[str], kind: str) -> list[str]:
    """Words that differ by case only are kept apart, since ids of people and products may do so on purpose."""
    joined = "\0".join(words)
    lower = joined.casefold()
    if lower == joined:
        return []
    folded = lower.split("\0")
    if len(set(folded)) == len(words):
        return []
    first: dict[str, str] = {}
    pairs = [(first.setdefault(key, word), word) for key, word in zip(folded, words, strict=True)]
    found = sorted(tuple(sorted(pair)) for pair in pairs if pair[0] != pair[1])
    one, other = found[0]
    verb, count = ("differ", "count") if len(found) > 1 else ("differs", "counts")
    return [
        f"{counted(len(found), kind)} {verb} from another by case only and {count} apart, e.g. {one!r} and {other!r}; "
        "write them alike if they are one"
    ]


def matches(pattern: str, name: str) -> bool:
    """Whether a pattern with stars, each for any letters, fits a name; without one it fits none."""
    form = _form(pattern)
    return form is not None and form.fullmatch(name) is not None


@lru_cache(maxsize=1024)  # one pattern is asked of each name of a pipeline, by each node that has it
def _form(pattern: str) -> re.Pattern[str] | None:
    parts = pattern.split("*")
    return re.compile(".*".join(map(re.escape, parts))) if len(parts) > 1 else None

"""What to do about a difference: the setting of `equalize`, or the view, that takes it away, and what nothing takes away."""

from __future__ import annotations

from stages.auditing.vocabulary import CANNOT_TELL, DIFFERS

FIXES: dict[str, str] = {}


def fix(name: str, verdict: str, enough: int) -> str:
    """Words for the user; enough: rows per class from which an effect as it was seen is told from chance."""
    if verdict == DIFFERS:
        return FIXES.get(name, "")
    if verdict == CANNOT_TELL and enough:
        return f"needs about {enough:,} rows per class to tell an effect of this size from chance"
    return ""

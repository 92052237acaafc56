"""The page on detectors, made from the presets and from the manifest of published ones: `python -m` prints it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from detectors import PRESETS
from detectors.published import PUBLISHED
from stages.weights.detector_entries import Entry, read_entries

IN_RECIPES = False

MANIFEST = Path(__file__).parents[2] / "manifests" / "detectors.yaml"

HEAD = """\
# Detectors and cards

Made by `make pages`.

## By name

`detector: NAME` of a `train` node; `{preset: NAME, SETTING: VALUE}` changes a setting. All settings of a family are in
[stages](stages.md#train), families of your own in [writing a detector](writing_a_detector.md). What a training leaves
beside its weights is a card, `card.json`: rows, chains and licences it was trained on, threshold and its rule, figures
on validation rows.

| name | family | network | reads |
|---|---|---|---|"""

PUBLISHED_HEAD = """
## Published

`pretrained: manifests/detectors.yaml#NAME` of a `train` node, once you have the file
([how](checkpoints.md#published-detectors)). Numbers are those that the source states, in percent, and were not measured
here.

| name | network | licence | learned from |
|---|---|---|---|"""


def detectors_markdown(manifest: Path = MANIFEST) -> str:
    """Presets as a table, then a card for each entry of a manifest."""
    entries = read_entries(manifest)
    lines = [*HEAD.splitlines(), *(_preset(name, one) for name, one in PRESETS.items())]
    lines += [*PUBLISHED_HEAD.splitlines(), *(_line(name, one) for name, one in entries.items())]
    for name, entry in entries.items():
        lines += ["", f"### {name}", "", *_card(entry)]
    return "\n".join(lines)


def _preset(name: str, settings: Mapping[str, Any]) -> str:
    network = settings.get("network", {})
    words = [str(network[key]) for key in ("architecture", "depth") if key in network]
    feature = settings.get("feature")
    return f"| `{name}` | {settings['family']} | {' '.join(words)} | {f'`{feature}`' if feature else 'its members'} |"


def _line(name: str, entry: Entry) -> str:
    learned = ", ".join(entry.learned_from) or "not said"
    return f"| [{name}](#{name.replace('.', '')}) | {entry.network} | {entry.licence} | {learned} |"


def _card(entry: Entry) -> Iterator[str]:
    known = PUBLISHED[entry.network]
    changed = ", ".join(f"`{name}: {_text(value)}`" for name, value in (entry.preprocessing or {}).items())
    facts = {
        "file": f"`{entry.released_as}`, from {entry.page}",
        "code": entry.repository,
        "reads": f"`{entry.feature}`" + (f"; preprocessing as `{entry.network}`, but {changed}" if changed else ""),
        "decision": f"`{entry.decision or known.decision}`",
        "tensors": entry.keys,
        **entry.arguments,
    }
    yield f"{entry.paper}."
    yield ""
    yield from (f"- {name}: {value}" for name, value in facts.items() if value)
    yield from (f"- beware: {trap}" for trap in entry.traps)
    for one in entry.published:
        numbers = ", ".join(f"{where} {_text(value)}" for where, value in one.values.items())
        yield f"- {one.source} ({one.metric}): {numbers}"


def _text(value: Any) -> str:
    """As YAML has it on a line."""
    if value is None:
        return "null"
    if isinstance(value, list | tuple):
        return " / ".join(_text(one) for one in value)
    return f"{value:g}" if isinstance(value, float) else str(value)


if __name__ == "__main__":
    print(detectors_markdown())

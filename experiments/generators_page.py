"""The page of all figures of the generators of garments, from what experiments/results/generators.json tells."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from experiments.quality import GATE

HEAD = f"""\
# The generators of garments

Written by `python -m experiments.publish_generators`, from generators.json beside it. They show the pipeline at work;
they are no evidence about detectors.

All figures compare images of the rounded values that are published with photographs of senders that no training has
seen, as many of each; those of StarGAN2 are translations of photographs of training senders, and their photographs are
of its domains. `none` went on from the raw one as +R and +A did, without their term; it is not published.

- thousand images: that a training has seen; +: beyond those of the raw one. hours: of one core
- photographs: and their senders
- diversity: 1 - MS-SSIM of random pairs; in brackets that of the photographs
- precision, recall, kernel distance: by features of the small perceptual network; they compare with nothing else
- Wasserstein: the mean sliced distance over sizes
- profile distance: of mean profiles, summed over rings
- clipped, border step, slope: AUC of this single number against the photographs; the first two have a gate,
  {GATE[0]} to {GATE[1]}
- gain over none: how much nearer than `none` the mean profile came, and its bootstrap deviation; above two deviations
  the generator bears its name
"""
COLUMNS = (
    "generator", "thousand images", "hours", "photographs", "diversity", "precision", "recall", "kernel distance",
    "Wasserstein", "profile distance", "clipped", "border step", "slope", "misses", "gain over none",
)  # fmt: skip


def page(told: Mapping[str, Mapping[str, Any]], order: tuple[str, ...]) -> str:
    """Markdown. told: by name, such as "progan-raw", held-out figures, misses, and what else is known of it."""
    named = {name: told[name] for name in order if name in told}
    return "\n".join([HEAD, *_table(named), *_sentences(named), ""])


def _table(told: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    yield f"| {' | '.join(COLUMNS)} |"
    yield f"|{'---|' * len(COLUMNS)}"
    for name, one in told.items():
        yield f"| {' | '.join(_cells(name, one))} |"


def _cells(name: str, one: Mapping[str, Any]) -> Iterator[str]:
    held_out = one["held_out"]
    yield name
    yield f"{'' if name.endswith('-raw') else '+'}{one['kimg']:g}"
    yield f"{one['hours']:g}" if "hours" in one else "-"
    yield f"{held_out['photographs']:.0f} of {held_out['senders']:.0f}"
    yield f"{held_out['diversity']:.3f} ({held_out['diversity_real']:.3f})"
    yield from (f"{held_out[key]:.2f}" for key in ("precision", "recall"))
    yield f"{held_out['kernel_distance']:.3f}"
    yield f"{held_out['swd']:.1f}"
    yield from (
        f"{held_out[key]:.2f}" for key in ("profile_distance", "auc_clipped", "auc_border_step", "auc_spectral_slope")
    )
    yield ", ".join(sentence.partition(" alone ")[0] for sentence in one["misses"]) or "-"
    gain = one.get("compared_with_none")
    yield f"{gain['gain']:.2f} ± {gain['deviation']:.2f}" if gain else "-"


def _sentences(told: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    for title, key in (("What the pictures show", "grid"), ("Not published", "not_published")):
        lines = [f"- {name}: {one[key]}" for name, one in told.items() if key in one]
        yield from ("", f"## {title}", "", *lines) if lines else ()

"""Rules of learning rates and rules of stopping by name. Part of no recipe: one more changes nothing that was trained.

A rule is a module here with its settings (a `detectors.parts.Settings` with the tag `rule`), one line in `RATES` or
`STOPS`, and one function of what validation said so far:

    factor(settings, history) -> float      of the learning rate in the next epoch; 0 ends the training
    finished(settings, history) -> bool     whether the training ends here

and, where a rule of rates says which weights stay,

    kept(settings, history) -> int          number from 0 of that epoch; without it the first of the best ones

history: what the training selects by, after each epoch that is done (none: []), a larger number being better. Rules are
pure: they read the whole history each time, so nothing of them has to survive a kill.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated

from detectors.parts import OneOf, Settings
from detectors.schedules import constant, patience, plateau, quarter_cosine, stale, steps

IN_RECIPES = False

RATES: Mapping[str, type[Settings]] = {
    "constant": constant.Constant,
    "plateau": plateau.Plateau,
    "quarter_cosine": quarter_cosine.QuarterCosine,
    "steps": steps.Steps,
}
STOPS: Mapping[str, type[Settings]] = {
    "patience": patience.Patience,
    "stale": stale.Stale,
}

AnyRate = Annotated[Settings, OneOf("rule", RATES)]
AnyStop = Annotated[Settings, OneOf("rule", STOPS)]

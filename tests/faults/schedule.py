"""What happens in which run: the same for the same seed, on every machine and whatever else is run.

Commands and faults take turns until each pair had its turn, then again. Each turn has its moment from a sequence that
spreads evenly over the whole run however many turns there are (multiples of the golden ratio).
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from typing import Literal

Kind = Literal["boundary", "random"]
GOLDEN = 0.6180339887498949


@dataclass(frozen=True, slots=True)
class Case:
    """One run: its number in the schedule, what is run, what happens, and when.

    A `boundary` is that between two lines of narration (each step and each child has its line), `random` any instant of
    the command's normal duration; `place` from 0 to 1 says which one.
    """

    number: int
    seed: int
    command: str
    fault: str
    kind: Kind
    place: float

    def dice(self) -> random.Random:
        """Give what decides everything else about this run."""
        return random.Random(f"{self.seed} {self.number}")  # noqa: S311 - is to be repeated, not to be kept secret


def schedule(seed: int, runs: int, cells: Mapping[str, tuple[str, ...]]) -> list[Case]:
    """Give the first runs of a seed; `cells` are the commands that each fault can happen to."""
    return list(islice(_cases(seed, cells), runs))


def _cases(seed: int, cells: Mapping[str, tuple[str, ...]]) -> Iterator[Case]:
    dice = random.Random(seed)  # noqa: S311
    starts: dict[tuple[str, str], float] = {}
    turns: Counter[tuple[str, str]] = Counter()
    number = 0
    while True:
        for cell in _round(dice, cells):
            number += 1
            turns[cell] += 1
            place = (starts.setdefault(cell, dice.random()) + turns[cell] * GOLDEN) % 1
            kind: Kind = "boundary" if (turns[cell] + number) % 2 else "random"
            yield Case(number, seed, *cell, kind, round(place, 4))


def _round(dice: random.Random, cells: Mapping[str, tuple[str, ...]]) -> list[tuple[str, str]]:
    """Shuffle all pairs of command and fault so that every fault comes before any comes twice."""
    faults = list(cells)
    dice.shuffle(faults)
    left = {fault: dice.sample(cells[fault], len(cells[fault])) for fault in faults}
    rounds = max(map(len, left.values()))
    return [(left[fault][turn], fault) for turn in range(rounds) for fault in faults if turn < len(left[fault])]

"""One run of the schedule, from the copy of a Server to the last check."""

from __future__ import annotations

import time
import traceback
from contextlib import ExitStack
from dataclasses import dataclass, replace

from faults.archives import Aftermath
from faults.checks import look_after
from faults.ground import Ground, Normal
from faults.injections import INJECTIONS
from faults.moments import NotHereError, Scene
from faults.schedule import Case

ATTEMPTS, EARLIER = 4, 0.6


@dataclass(frozen=True, slots=True)
class Result:
    """What came of one run of the schedule."""

    case: Case
    moment: str
    happened: str | None
    """What was done to it; None when it could not be done, and `reason` says why."""
    exit_codes: tuple[int, ...]
    next_codes: tuple[int, ...]
    seconds: float
    problems: tuple[str, ...] = ()
    lost: tuple[str, ...] = ()
    reason: str = ""
    said: str = ""
    """The last line that the first run wrote to standard error, without its own directory."""

    @property
    def failed(self) -> bool:
        """Whether something does not hold that must, whatever had happened by then."""
        return bool(self.problems or self.lost)

    @property
    def survived(self) -> bool:
        """Whether something happened, and everything holds that must."""
        return self.happened is not None and not self.failed


def play(ground: Ground, normal: Normal, case: Case) -> Result:
    """Play a run; when the moment comes only after its end, again with an earlier one."""
    result = _attempted(ground, normal, case)
    for attempt in range(1, ATTEMPTS):
        if result.happened is not None or result.reason or result.problems:
            break
        kind = "boundary" if INJECTIONS[case.fault].pattern(case.command) else case.kind
        result = _attempted(ground, normal, replace(case, place=case.place * EARLIER**attempt, kind=kind))
    return replace(result, case=case)


def _attempted(ground: Ground, normal: Normal, case: Case) -> Result:
    begun = time.monotonic()
    with ground.site(f"run_{case.number}") as site:
        scene = Scene(case, ground, site, normal, case.dice())
        codes: list[int] = []
        try:
            _strike(scene, codes)
            after = look_after(scene, INJECTIONS[case.fault], codes) if scene.happened else _before_time(scene, codes)
        except NotHereError as missing:
            return Result(case, "", None, (), (), 0.0, reason=str(missing))
        except Exception:  # noqa: BLE001 - one run's failure must not end the others
            after = Aftermath([traceback.format_exc(limit=-4)])
        finally:
            scene.finish()
            ground.run_again()
    seconds = round(time.monotonic() - begun, 2)
    ends = tuple(codes), tuple(after.next_codes)
    problems, said = tuple(after.problems), _last_words(scene)
    return Result(case, scene.moment, scene.happened, *ends, seconds, problems, tuple(after.lost), said=said)


def _last_words(scene: Scene) -> str:
    return "".join(scene.last_words[-1:]).replace(str(scene.site.place), "…")


def _before_time(scene: Scene, codes: list[int]) -> Aftermath:
    """Note a run that failed although nothing had happened to it."""
    # Others, which came too late for it, may have met each other.
    after, said = Aftermath(), scene.runs[0].said().stderr.strip()
    after.demand(codes[0] <= 0, f"exit code {codes[0]} before anything happened: {said[-300:]}")
    return after


def _strike(scene: Scene, codes: list[int]) -> None:
    """Run the command and let it happen; every run has ended afterwards, and things are right again."""
    injection = INJECTIONS[scene.case.fault]
    with ExitStack() as stack:
        strike = stack.enter_context(injection.fault(scene))
        run = scene.begin()
        if scene.await_moment(run, injection.pattern(scene.case.command)):
            scene.happened = strike(run)
        codes += [scene.ended(one) for one in scene.runs]
        scene.last_words = scene.runs[0].said().stderr.splitlines()

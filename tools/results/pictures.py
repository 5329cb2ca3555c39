"""The pictures of a run's losses and of a test's scores. One that cannot be drawn is reported, and costs no result."""

import base64
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from datasets.clips import Clip
from tools.runtime.progress import say

if TYPE_CHECKING:
    from networks.training import EpochLosses

BLANK = base64.b64decode(  # a PNG of one pixel
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNkYPhfDwAChwGA60e6kgAAAABJRU5ErkJggg=="
)


@dataclass(frozen=True)
class ScoreGroup:
    """The scores of the clips of one section, domain and label, in clip order."""

    section: int
    domain: str | None
    label: str | None
    scores: Sequence[float]


def score_groups(clips: Iterable[Clip], scores: Iterable[float]) -> list[ScoreGroup]:
    """Return the scores by section, domain and label, normal before anomalous."""
    groups: dict[tuple[int, str | None, str | None], list[float]] = {}
    for clip, score in zip(clips, scores, strict=True):
        groups.setdefault((clip.section, clip.domain, clip.label), []).append(float(score))
    order = sorted(groups, key=lambda key: (key[0], key[1] or "", key[2] == "anomaly"))
    return [ScoreGroup(*key, groups[key]) for key in order]


def loss_picture(epochs: "list[EpochLosses]", machine_type: str, sections: list[int], seed: int, unit: str) -> bytes:
    """Return the losses of each epoch as a PNG file's content."""

    def draw() -> bytes:
        from tools.results.plots import draw_losses, loss_title, to_png

        return to_png(draw_losses(epochs, loss_title(machine_type, sections, seed), unit=unit))

    return _or_blank(draw)


def score_picture(
    groups: Sequence[ScoreGroup], machine_type: str, sections: list[int], name: str, threshold: float | None, unit: str
) -> bytes:
    """Return a test's scores by section, domain and label as a PNG file's content."""

    def draw() -> bytes:
        from tools.results.plots import draw_scores, score_title, to_png

        return to_png(draw_scores(groups, threshold, score_title(machine_type, sections, name, threshold), unit))

    return _or_blank(draw)


def _or_blank(draw: Callable[[], bytes]) -> bytes:
    try:
        return draw()
    except Exception as error:  # of matplotlib, its settings, its fonts
        say(f"the picture is blank: {type(error).__name__}: {' '.join(str(error).split())[:200]}")
        return BLANK

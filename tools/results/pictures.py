"""Pictures of a run. One that cannot be drawn is reported and left blank, so that no network or score is lost."""

import base64
from collections.abc import Callable
from typing import Any

from runtime.progress import say

BLANK = base64.b64decode(  # a PNG of one pixel
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNkYPhfDwAChwGA60e6kgAAAABJRU5ErkJggg=="
)


_unusable: Exception | None = None
try:
    from tools.results import plots
except Exception as error:  # of matplotlib, such as a broken matplotlibrc; it must cost no training
    _unusable = error


def png_or_blank(draw: Callable[[Any], Any]) -> bytes:
    """Return a figure as a PNG file's content; `draw` makes it, given the module tools.results.plots."""
    try:
        if _unusable is not None:
            raise _unusable
        return plots.to_png(draw(plots))
    except Exception as error:  # from matplotlib, its settings, its fonts
        say(f"the picture is blank: {type(error).__name__}: {' '.join(str(error).split())[:200]}")
        return BLANK

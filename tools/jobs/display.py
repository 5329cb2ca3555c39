"""The display of parallel jobs: a line for each on a terminal; in a log file, news and every tenth of the work."""

import os
import shutil
import sys

from runtime.command import printable
from runtime.progress import Level, Line, say


class Display:
    """Shows the jobs' lines: permanent ones on standard output, each running job's last one on a terminal.

    The terminal's lines (standard error) are redrawn in place; the cursor rests at the start of the first, so that
    other output, such as ^C, does not end up beside them.
    """

    def __init__(self):
        self._is_terminal = sys.stderr.isatty() and os.environ.get("TERM") != "dumb"
        self._last: dict[str, str] = {}  # by name of a running job

    def say(self, text: str) -> None:
        """Print a permanent line."""
        self._erase()
        say(printable(text))
        self._draw()

    def report(self, name: str, line: Line) -> None:
        """Show a line reported by a job."""
        first, _, rest = line.text.partition(": ")
        self._last[name] = f"{name}: {rest if first in name else line.text}"  # fan section 00: section 00: ...
        before, after = (int(share * 10 + 1e-9) for share in line.share)
        is_due = line.level is Level.PROGRESS and not self._is_terminal and after > before
        if line.level is Level.NEWS or is_due:
            self.say(self._last[name])
        else:
            self._erase()
            self._draw()

    def end(self, name: str) -> None:
        """Remove the line of a job that has ended."""
        self._last.pop(name, None)

    def close(self) -> None:
        """Remove the terminal's lines."""
        self._last.clear()
        self._erase()

    def _erase(self) -> None:
        if self._is_terminal:
            sys.stderr.write("\r\x1b[J")  # the cursor's line, and all below it
            sys.stderr.flush()

    def _draw(self) -> None:
        if self._is_terminal and self._last:
            from tqdm.utils import disp_trim

            size = shutil.get_terminal_size()
            lines = [disp_trim(printable(text), size.columns - 1) for text in self._last.values()][: size.lines - 1]
            up = f"\x1b[{len(lines) - 1}A" if len(lines) > 1 else ""
            sys.stderr.write("\n".join(lines) + f"\r{up}")
            sys.stderr.flush()

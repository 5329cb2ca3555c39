"""The errors that a user causes, and the signals that end a command."""

import signal
import sys


class InputError(Exception):
    """What was given cannot be used; the message says what was given, what is allowed and what to do."""


class Stopped(BaseException):
    """A signal, or another cause, asks the program to end; `status` is its exit status then, as a shell counts."""

    def __init__(self, number: int, cause: str = ""):
        super().__init__()
        self.number, self.status = number, 1 if cause else 128 + number
        self.cause = cause or f"stopped by {signal.Signals(number).name}"
        self.say("nothing is half-written; run the same command again to start over")

    def say(self, hint: str) -> None:
        """Set the hint printed when the program stops; "" if it was already printed."""
        self.args = (f"{self.cause}; {hint}",) if hint else ()


def note(text: str) -> None:
    """Print a line about the command line or a --config file to standard error."""
    print(f"note: {text}", file=sys.stderr)

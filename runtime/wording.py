"""Numbers and lists in sentences."""

from collections.abc import Iterable


def counted(n: int, what: str) -> str:
    """Return `1 clip`, or `2 clips`."""
    return f"{n} {what}" if n == 1 else f"{n} {what}s"


def listed(items: Iterable[str], shown: int = 5, separator: str = ", ") -> str:
    """Return some items and the number of the others: `a, b and 3 more`."""
    texts = list(items)
    return separator.join(texts[:shown]) + (f" and {len(texts) - shown} more" if len(texts) > shown else "")

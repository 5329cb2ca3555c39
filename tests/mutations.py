"""How fuzz.py breaks files, and how it calls a command on them."""

import contextlib
import io
import sys
from collections.abc import Callable

import numpy as np

NASTY = {
    "name": ["\n", "\t", " ", '"', ",", "..", "--help", "*", "$(x)", "é", "😀", "\x1b[31m", "\udcff", "%s", "{0}", "\\",
             "0" * 150, ".WAV", "_", "section_00", "٣"],
    "yaml": ["!!python/object/apply:os.system [exit]", "&a [*a]", "*a", "1e999", ".nan", "[", "{", "!!int ''", "~", '"',
             "\t", "- - -", "? ", "1" * 5000, "[" * 3000, "\0", "\ufeff", "---\n", "|\n", "null", "-1", "seed: 1\n"],
    "csv": ['"', "'", "\0", "\n", "\r", ",", ",,,,", "nan", "inf", "-inf", "1e999", "00", "99", "-1", "é", "\ufeff",
            "x" * 200_000, "arithmetic mean", "section", "AUC (source)", "pAUC", "1" * 5000, ";", "\t", "٣", "1_0",
             "0x1"],
}  # fmt: skip


def mutate(rng: np.random.Generator, content: bytes, parts: list[bytes]) -> bytes:
    """Change a few places of a file: bytes changed, deleted, doubled, replaced or inserted, or the rest cut off."""
    data = bytearray(content)
    for _ in range(rng.integers(1, 5)):
        at = int(rng.integers(0, len(data) + 1))
        length = int(rng.integers(1, 40))
        match rng.integers(0, 6):
            case 0:
                data[at : at + 1] = bytes([rng.integers(0, 256)])
            case 1:
                del data[at : at + length]
            case 2:
                data[at:at] = data[at : at + length]
            case 3:
                data[at:at] = parts[rng.integers(0, len(parts))]
            case 4:
                del data[at:]
            case 5:
                data[at : at + length] = rng.bytes(length)
    return bytes(data)


def nasty(kind: str) -> list[bytes]:
    """Return a kind's nasty parts as bytes."""
    return [part.encode(errors="surrogateescape") for part in NASTY[kind]]


def call(main: Callable[[], int], *words: object) -> int:
    """Run a command in this process; it must end with status 0, 1 or 2, and report a failure in a sentence."""
    sys.argv = ["program", *map(str, words)]
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            status = main()
        except SystemExit as stop:
            status = stop.code
    is_silent = status != 0 and not (err.getvalue() or out.getvalue())
    if status not in (0, 1, 2) or is_silent or "Traceback" in err.getvalue():
        raise AssertionError(f"status {status}, {err.getvalue()!r}")
    return status


def mutate_run(rng: np.random.Generator, content: bytes) -> bytes:
    """Change a file of a run: mostly a bit or a digit, which leave it readable."""
    data = bytearray(content)
    match rng.integers(0, 4):
        case 0:
            data[rng.integers(0, len(data))] ^= 1 << rng.integers(0, 8)
            return bytes(data)
        case 1:
            digits = [i for i, byte in enumerate(data[:20_000]) if 48 <= byte < 58] or [0]
            data[digits[rng.integers(0, len(digits))]] = rng.integers(48, 58)
            return bytes(data)
        case _:
            return mutate(rng, content, [b"null", b"NaN", b"-1", b"1e999", b"[", b"{", b'"', b"PK\x03\x04", bytes(64)])

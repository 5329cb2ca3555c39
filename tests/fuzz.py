#!/usr/bin/env python3
"""Feed broken files to the commands: each is refused in one sentence, or read; none changes a score silently.

    python tests/fuzz.py [--cases 300] [--seed 0] DIRECTORY

A case breaks one file of a finished run (the header of a test clip, a --config file, or a CSV of scores): bits are
flipped, bytes deleted, doubled or inserted. Then it tests, or makes the tables, and is `refused`, gives the `same
scores`, is `read otherwise` (a valid file with other samples, parameters or scores; the latter are reported), or is
`silent`. A traceback, a hang or a silent case ends the program with status 1 and leaves the case in DIRECTORY. The same
seed makes the same cases.
"""

import argparse
import contextlib
import io
import signal
import sys
from collections import Counter
from pathlib import Path

if __name__ == "__main__":
    sys.path[:0] = [str(Path(__file__).resolve().parents[1]), str(Path(__file__).resolve().parent)]

from common import InputError, read_values

import numpy as np
import soundfile
from synthetic import REPOSITORY, call, directories, machine_folder, small_run, write_machine

import train
from tools.results import __main__ as summarize_results

LIMIT = 60  # seconds for a case
FORMATS = ["WAV PCM_16", "WAV PCM_24", "WAV FLOAT", "WAVEX PCM_16", "AIFF PCM_16", "FLAC PCM_16"]  # libsndfile's names
PARTS = {
    "audio headers": [b"\xff" * 4, bytes(4), b"data", b"fact"],
    "YAML": [
        *b"[ { ] ' \" ~ & * | > ! null -1 .nan 1e999 !!python/object/apply:os.system".split(),
        b"\t",
        b": :",
        b"\0",
    ],
    "CSV": [*b"\" ' , ,,,, ; nan inf -inf 1e999 00 -1 1_0 0x1".split(), b"\0", b"\n", b"\r", "\ufeffé٣".encode()],
}


def mutate(rng: np.random.Generator, content: bytes, parts: list[bytes]) -> bytes:
    """Change a file in one or two places: flip a bit, delete, double or insert bytes, or cut the rest off."""
    data = bytearray(content)
    for _ in range(rng.integers(1, 3)):
        at = int(rng.integers(0, len(data) + 1))
        end = at + int(rng.integers(1, 40))
        match rng.integers(0, 8):
            case 0:
                del data[at:end]
            case 1:
                data[at:at] = data[at:end]
            case 2 | 3:
                data[at:at] = parts[rng.integers(0, len(parts))]
            case 4:
                del data[at:]
            case _:
                data[at - 1] ^= 1 << rng.integers(0, 8)
    return bytes(data)


def run(main, *words: object) -> tuple[int, str]:
    """Run a command in this process; return its status and output. It must report a failure in a sentence."""
    output = io.StringIO()
    with contextlib.redirect_stdout(output), contextlib.redirect_stderr(output):
        status = call(main, *words)
    text = output.getvalue()
    if status not in (0, 1, 2) or "Traceback" in text or (status and "error: " not in text):
        raise AssertionError(f"status {status}: {text}")
    return status or 0, text


class FinishedRun:
    """A trained and tested run in a folder, whose files are broken one at a time."""

    def __init__(self, folder: Path):
        write_machine(machine_folder(folder / "data"), n_test=1)
        self.folder, self.test = folder, [*small_run(folder), "--use_ids", 0, "-tag", "id(0_)", "--test_only"]
        assert run(train.main, *self.test[:-1])[0] == 0
        (self.scores,) = (folder / "results").rglob("anomaly_score*.csv")
        self.clip = min((machine_folder(folder / "data") / "test").iterdir())
        self.tables = ["DCASE2023T2", "-d", *directories(folder)[:6]]

    def test_again(self, *words: object) -> str:
        """Test on a broken file; return how it ended."""
        before = self.scores.read_bytes()
        status, _ = run(train.main, *self.test, *words)
        after = self.scores.read_bytes()
        self.scores.write_bytes(before)
        return "refused" if status else "same scores" if after == before else "silent"

    def audio_headers(self, rng: np.random.Generator) -> str:
        """Break the header of a test clip."""
        whole, (samples, rate) = self.clip.read_bytes(), soundfile.read(self.clip, dtype="int16")
        kind, subtype = FORMATS[rng.integers(0, len(FORMATS))].split()
        soundfile.write(self.clip, samples, rate, format=kind, subtype=subtype)
        good = self.clip.read_bytes()
        self.clip.write_bytes(mutate(rng, good[:44], PARTS["audio headers"]) + good[44:])
        end = self.test_again()
        if end == "silent" and not np.array_equal(soundfile.read(self.clip, dtype="float32")[0], samples / 32768):
            end = "read otherwise"
        if end != "silent":
            self.clip.write_bytes(whole)
        return end

    def yaml(self, rng: np.random.Generator) -> str:
        """Break a --config file."""
        path, whole = self.folder / "config.yaml", (REPOSITORY / "baseline.yaml").read_bytes()
        path.write_bytes(mutate(rng, whole, PARTS["YAML"]))
        end = self.test_again("--config", path)
        with contextlib.suppress(InputError):
            if end == "silent" and read_values(path) != read_values(REPOSITORY / "baseline.yaml"):
                end = "read otherwise"
        return end

    def csv(self, rng: np.random.Generator) -> str:
        """Break a CSV of scores before the tables are made."""
        whole, (_, expected) = self.scores.read_bytes(), run(summarize_results.main, *self.tables)
        self.scores.write_bytes(mutate(rng, whole, PARTS["CSV"]))
        status, text = run(summarize_results.main, *self.tables)
        end = "refused" if status else "same scores" if text == expected else "silent"
        if end == "silent" and f"{self.scores.name} changed since the test" in text:
            end = "read otherwise"
        if end != "silent":
            self.scores.write_bytes(whole)
        return end


def main() -> int:
    """Run the command line and return the exit status."""
    parser = argparse.ArgumentParser(description="Feed broken files to the commands.")
    parser.add_argument("directory", type=Path, metavar="DIRECTORY", help="an empty folder to work in")
    parser.add_argument("--cases", type=int, default=300, help="cases of each kind [default: 300]")
    parser.add_argument("--seed", type=int, default=0, help="seed of the cases [default: 0]")
    args = parser.parse_args()
    finished = FinishedRun(args.directory.resolve())
    for kind, work in zip(PARTS, (finished.audio_headers, finished.yaml, finished.csv), strict=True):
        ends: Counter[str] = Counter()
        for case in range(args.cases):
            signal.alarm(LIMIT)  # ends the program
            end = work(np.random.default_rng([args.seed, case]))
            ends[end] += 1
            if end == "silent":
                print(f"{kind}: case {case} of seed {args.seed} is silent, see {args.directory}")
                return 1
        print(f"{kind}: {dict(ends)}", flush=True)
    print("no traceback, no hang, no silent difference")
    return 0


if __name__ == "__main__":
    sys.exit(main())

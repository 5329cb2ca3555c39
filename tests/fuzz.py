#!/usr/bin/env python3
"""Feed broken files to the commands: each is accepted, or reported in one sentence; none hangs, none changes a score.

    python tests/fuzz.py [--cases 2500] [--seed 0] DIRECTORY

The cases are made from good files: bytes changed, cut out, doubled; parts put in that have broken programs before. Of
what a run leaves (features, checkpoint, network, thresholds, record) a case breaks one file, and then trains or tests:
whatever ends with status 0 must have given the scores and decisions of the unbroken run. The same seed makes the same
cases; a case that fails stays in DIRECTORY.
"""

import argparse
import contextlib
import io
import shutil
import signal
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path

if __name__ == "__main__":
    sys.path[:0] = [str(Path(__file__).resolve().parents[1]), str(Path(__file__).resolve().parent)]

from common import set_instruction_set

set_instruction_set("avx2")

import numpy as np
import soundfile
from synthetic import (
    REPOSITORY,
    RUN,
    checkpoint_path,
    machine_folder,
    make_settings,
    network_path,
    small_run,
    write_machine,
)

import train
from common import InputError, read_defaults
from datasets.cache import load_features
from datasets.clips import list_clips
from datasets.front_ends import make_front_end
from tools import check_dataset, rename_eval_wav
from tools.results import __main__ as summarize_results
from tools.results.files import read_result_table, write_result_table

LIMIT = 20  # seconds for a case
CHALLENGE = ("DCASE2023T2", "-d")
NAME = "section_00_source_train_normal_0003_spd_28.wav"
NASTY = {
    "name": ["\n", "\r", "\t", " ", '"', "'", ",", ";", "..", "-", "--help", "*", "$(x)", "é", "日本", "\u202e", "😀",
             "\x7f", "\x1b[31m", "\udcff", "%s", "%n", "{0}", "\\", "0" * 150, ".wav", ".WAV", "_", "section_00", "٣"],
    "yaml": ["!!python/object/apply:os.system [exit]", "&a [*a]", "*a", "1e999", "0x10", ".nan", "[", "{", "]",
             "!!int ''", "!!bool z", "!!timestamp q", "!!float x", "!!binary '='", "2023-99-99", "~", "'", '"',
             "\t", "- - -", "? ", ": :", "1" * 5000, "[" * 3000, "{a: " * 500, "😀", "\0", "\ufeff", "---\n", "...\n",
             "%YAML 9.9\n",
             "<<: *a", "&a a", "|\n", ">", "!", "!<x>", "null", "true", "-1", "1.5", "''", "seed: 1\n", "? [a]\n: b\n"],
    "csv": ['"', "'", "\0", "\n", "\r", ",", ",,,,", "nan", "inf", "-inf", "1e999", "00", "99", "-1", "é", "\ufeff",
            "x" * 200_000, "arithmetic mean", "section", "AUC (source)", "pAUC", "1" * 5000, ";", "\t", "٣", "1_0",
             "0x1"],
}  # fmt: skip

FORMATS = (  # libsndfile's names of a file's format and that of its samples
    *("WAV PCM_16", "WAV PCM_U8", "WAV PCM_24", "WAV FLOAT", "WAV IMA_ADPCM"),
    *("WAVEX PCM_16", "RF64 DOUBLE", "AIFF PCM_16", "FLAC PCM_16", "OGG VORBIS"),
)


def mutate(rng: np.random.Generator, content: bytes, parts: list[bytes]) -> bytes:
    """Change a few places of a file: bytes changed, cut out, doubled, swapped or put in, the rest cut off."""
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
    if status not in (0, 1, 2) or is_silent or "unexpected" in err.getvalue() or "Traceback" in err.getvalue():
        raise AssertionError(f"status {status}, {err.getvalue()!r}")
    return status


def fuzz_names(rng: np.random.Generator, folder: Path) -> None:
    """A clip's name, given to the check of a data set and to what lists the clips of a run."""
    train = machine_folder(folder) / "train"
    if not train.is_dir():
        write_machine(machine_folder(folder), n_train=2, n_test=1, seconds=0.1)
    wav = next(train.parent.glob("test/*.wav")).read_bytes()
    name = mutate(rng, NAME.encode(), nasty("name")).replace(b"/", b"_").replace(b"\0", b"_")[:255] or b"x"
    path = train / name.decode(errors="surrogateescape")
    with contextlib.suppress(OSError, UnicodeError):  # a name that the file system refuses: ., .. or a folder's
        if not path.exists():
            path.write_bytes(wav)
            try:
                call(check_dataset.main, "DCASE2023T2", "dev", "fan", "--dataset_directory", folder)
                with contextlib.suppress(InputError):
                    list_clips(train)
            finally:
                path.unlink()


def fuzz_yaml(rng: np.random.Generator, folder: Path) -> None:
    """The parameters of a run."""
    path = folder / "baseline.yaml"
    path.write_bytes(mutate(rng, (REPOSITORY / "baseline.yaml").read_bytes(), nasty("yaml")))
    with contextlib.suppress(InputError):
        read_defaults(path)


def fuzz_csv(rng: np.random.Generator, folder: Path) -> None:
    """A result table, given to what summarises, or a list of labels, given to what labels clips."""
    if rng.integers(0, 2):
        results = folder / "dev_data" / "baseline_MSE"
        path = results / "result_DCASE2023T2fan_test_seed13711_id(0_)_roc.csv"
        metrics = {"AUC (source)": 0.5, "AUC (target)": 0.25, "pAUC": 0.5, "pAUC (source)": 0.5, "pAUC (target)": 1.0}
        results.mkdir(parents=True, exist_ok=True)
        text = io.StringIO()
        write_result_table(text, {0: metrics})
        path.write_bytes(mutate(rng, text.getvalue().encode(), nasty("csv")))
        with contextlib.suppress(InputError):
            read_result_table(path)
        call(summarize_results.main, *CHALLENGE, "--result_directory", folder)
    else:
        (machine_folder(folder, "bandsaw", split="eval_data") / "test").mkdir(parents=True, exist_ok=True)
        path = folder / "labels.csv"
        good = b"bandsaw\nsection_00_0000.wav,section_00_source_test_normal_0000_vel_5.wav\n" * 2
        path.write_bytes(mutate(rng, good, nasty("csv")))
        words = ("--dataset_parent_dir", folder, "--dataset_type", "DCASE2023T2", "--eval_data_list", path)
        call(rename_eval_wav.main, *words)


def fuzz_wav(rng: np.random.Generator, folder: Path) -> None:
    """A recording, given to what makes features."""
    path = folder / NAME
    kind, subtype = FORMATS[rng.integers(0, len(FORMATS))].split()
    buffer = io.BytesIO()
    soundfile.write(buffer, rng.uniform(-0.5, 0.5, 3000), 16000, format=kind, subtype=subtype)
    good = buffer.getvalue()
    head = int(rng.choice([60, 200, len(good)]))  # mostly the header
    path.write_bytes(mutate(rng, good[:head], [b"\xff\xff\xff\xff", b"\0\0\0\0", b"data", b"fact"]) + good[head:])
    with contextlib.suppress(InputError):
        front_end = make_front_end(make_settings())
        load_features(list_clips(folder)[0], front_end, 1, folder / "cache", True, lambda items, *_: items)
    for made in (folder / "cache").glob("*"):
        made.unlink()


def mutate_run(rng: np.random.Generator, content: bytes) -> bytes:
    """Change a file of a run: mostly a bit or a digit, which leave it readable."""
    data = bytearray(content)
    match rng.integers(0, 4):
        case 0:
            data[rng.integers(0, len(data))] ^= 1 << rng.integers(0, 8)
            return bytes(data)
        case 1:
            digits = [i for i, byte in enumerate(data[:20_000]) if 48 <= byte < 58]
            data[digits[rng.integers(0, len(digits))]] = rng.integers(48, 58)
            return bytes(data)
        case _:
            return mutate(rng, content, [b"null", b"NaN", b"-1", b"1e999", b"[", b"{", b'"', b"PK\x03\x04", bytes(64)])


def figures(folder: Path) -> dict[str, bytes]:
    """Return the scores and decisions of a run."""
    return {path.name: path.read_bytes() for path in (folder / "results").rglob("[ad]*.csv")}


def fuzz_runs(rng: np.random.Generator, folder: Path) -> None:
    """What a run has left: one file is broken, then the run is tested, or resumed after its checkpoint was broken."""
    words = small_run(folder)
    run, clips = network_path(folder), machine_folder(folder / "data")
    kept = folder.with_name(f"{folder.name} unbroken")
    if not kept.exists():
        write_machine(clips)
        for further in (["--epochs", "2"], ["--restart", "--epochs", "3"]):
            assert call(train.main, *words, *further) == 0
            shutil.copytree(folder, kept / further[-1])
    is_checkpoint = rng.integers(0, 4) == 0
    source, final = kept / ("2" if is_checkpoint else "3"), figures(kept / "3")
    for name in ("models", "logs", "results"):
        shutil.rmtree(folder / name, ignore_errors=True)
        if name != "results":
            shutil.copytree(source / name, folder / name)
    shutil.copytree(kept / "3/data/dcase2023t2/dev_data/processed", clips.parents[1] / "processed", dirs_exist_ok=True)
    features = [path for path in sorted((clips.parents[1] / "processed").glob("*/*")) if path.suffix != ".lock"]
    belongings = [run, run.with_suffix(".json"), *sorted(run.parent.glob(f"score_distr_{RUN}_mse*")), *features]
    path = checkpoint_path(folder) if is_checkpoint else belongings[rng.integers(0, len(belongings))]
    broken = mutate_run(rng, path.read_bytes())
    path.write_bytes(broken)
    further = ["--restart", "--epochs", "3"] if is_checkpoint else ["--epochs", "3", "--test_only"]
    status = call(train.main, *words, *further)
    if status == 0 and figures(folder) != final:
        (folder / "broken").write_bytes(broken)
        raise AssertionError(f"{path} was changed, and so were scores or decisions, without a word")


KINDS = {"names": fuzz_names, "YAML": fuzz_yaml, "CSV": fuzz_csv, "WAV": fuzz_wav, "runs": fuzz_runs}


def fuzz(directory: Path, n_cases: int, seed: int) -> Counter:
    """Run so many cases of each kind; return how many there were."""

    def too_long(_number: int, _frame: object) -> None:
        raise AssertionError(f"a case takes more than {LIMIT} s")

    handler = signal.signal(signal.SIGALRM, too_long)
    done = Counter()
    for kind, function in KINDS.items():
        folder = directory / kind
        folder.mkdir(parents=True)
        for case in range(n_cases):
            signal.alarm(LIMIT)
            try:
                function(np.random.default_rng([seed, case]), folder)
            except BaseException as error:
                raise AssertionError(f"{kind}, case {case} of seed {seed}, in {folder}: {error!r}") from error
            finally:
                signal.alarm(0)
            done[kind] += 1
    signal.signal(signal.SIGALRM, handler)
    return done


def main() -> int:
    """Run the command line and return the exit status."""
    parser = argparse.ArgumentParser(description="Feed broken files to the commands.")
    parser.add_argument("directory", type=Path, metavar="DIRECTORY", help="an empty folder to work in")
    parser.add_argument("--cases", type=int, default=2500, help="of each of the five kinds [default: 2500]")
    parser.add_argument("--seed", type=int, default=0, help="of the cases [default: 0]")
    args = parser.parse_args()
    print(f"no traceback, no hang, no silent difference: {dict(fuzz(args.directory.resolve(), args.cases, args.seed))}")
    return 0


if __name__ == "__main__":
    sys.exit(main())

#!/usr/bin/env python3
"""Write a small synthetic data set in the layout of DCASE 2023 Task 2, to try the baseline without a download.

The seven demo machines each have a sound, settings in the source and in the target domain, and a fault. Conventions: a
waveform is (n_samples,) float64 at SAMPLE_RATE, the machine itself about 1 rms; `turns` (n_samples,) counts the
machine's periods, its speed is in turns per second; the severity of a fault is 0 for a normal clip, else 0.2 to 1. A
clip depends only on the seed, its machine type and its labelled name. The evaluation set's machines sound like the
seven, in other clips; its test clips have unlabelled names, and their labels are a list in the organisers' form. The
defaults give an AUC (source) of 0.70 to 0.94 after 40 epochs, for each machine type and score.
"""

import argparse
import itertools
import json
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

if not __package__:  # run as a script: import from the repository, not from this folder
    sys.path[0] = str(Path(__file__).resolve().parents[1])

from common import PATH, InputError, integer, number, option_type

import numpy as np
import soundfile
from numpy.random import Generator
from scipy import signal

from datasets.catalogue import load_challenge
from datasets.clips import MachineFolders
from datasets.labels import label_list_path
from runtime.command import command
from runtime.files import atomic_write

CHALLENGE = "DCASE2023T2"
MARKER = "demo.json"  # in a machine type's folder: the options it was made with
MADE_BY = {"made_by": "tools/make_demo_dataset.py", "generator_version": 3}  # to raise when the sounds change

SAMPLE_RATE = 16_000  # Hz
MACHINE_LEVEL = 0.08  # rms of a machine in the file, of full scale 1: leaves 22 dB for clicks
SURROUNDINGS_LEVEL = 0.5  # rms of the surroundings, the machine's being 1
GOLDEN_RATIO = (1 + 5**0.5) / 2  # its first n multiples, modulo 1, are spread evenly for any n
TARGET_SHARE = 11  # one training clip in this many is from the target domain


def turns_of(rng: Generator, t: np.ndarray, speed: float) -> np.ndarray:
    """Count the turns made by the times t (s); the speed (1/s) is about 1 % off and drifts slowly by 1 %."""
    speed = speed * rng.normal(1, 0.01)
    return rng.random() + speed * (t + 0.002 * np.sin(2 * np.pi * (0.8 * t + rng.random())))


def harmonics(rng: Generator, turns: np.ndarray, levels: tuple[float, ...]) -> np.ndarray:
    """Sum harmonics 1, 2, ... at these amplitudes, each up to 3 dB off and at any phase."""
    waves = (np.sin(2 * np.pi * (k * turns + rng.random())) for k in range(1, len(levels) + 1))
    parts = [level * 10 ** rng.uniform(-0.15, 0.15) * wave for level, wave in zip(levels, waves, strict=True)]
    return sum(parts, np.zeros_like(turns))


def band_noise(rng: Generator, n_samples: int, low: float, high: float) -> np.ndarray:
    """Make Gaussian noise of rms 1 between two frequencies (Hz)."""
    sos = signal.butter(2, (low, high), "bandpass", fs=SAMPLE_RATE, output="sos")
    noise = signal.sosfilt(sos, rng.standard_normal(n_samples))
    return noise / noise.std()


def ticks(turns: np.ndarray) -> np.ndarray:
    """Put a unit impulse wherever a turn is completed."""
    return np.diff(np.floor(turns), prepend=np.floor(turns[0]))


def ring(impulses: np.ndarray, frequency: float, decay: float) -> np.ndarray:
    """Let impulses excite a resonance (Hz) that decays by a factor e in `decay` seconds."""
    r, w = np.exp(-1 / (decay * SAMPLE_RATE)), 2 * np.pi * frequency / SAMPLE_RATE
    return signal.lfilter([0, r * np.sin(w)], [1, -2 * r * np.cos(w), r**2], impulses)  # response r^n sin(w n)


# --- Machines: (rng, turns, speed in 1/s, severity) -> waveform ------------------------------------------------------


def fan(rng: Generator, turns: np.ndarray, speed: float, severity: float) -> np.ndarray:
    """Turn five blades in a flow of air; the fault is a bent blade, which rubs on each turn, and hums."""
    flow = band_noise(rng, len(turns), 150, 3000) * (1 + 0.3 * np.sin(2 * np.pi * 5 * turns))
    rub = band_noise(rng, len(turns), 3000, 6000) * np.maximum(0, np.sin(2 * np.pi * turns)) ** 4
    fault = 0.05 * harmonics(rng, turns, (1.0, 0.5)) + 0.8 * rub
    return flow + harmonics(rng, 5 * turns, (0.6, 0.4, 0.2, 0.1)) + severity * fault


def bearing(rng: Generator, turns: np.ndarray, speed: float, severity: float) -> np.ndarray:
    """Turn a shaft on balls, brighter with speed; the fault is a pit that each ball strikes."""
    rolling = band_noise(rng, len(turns), 300, 250 * speed)
    strikes = ticks(3.58 * turns) * rng.lognormal(0, 0.3, len(turns))
    shaft = harmonics(rng, turns, (0.5, 0.7, 0.4, 0.3, 0.2))
    return shaft + 0.6 * rolling + 2.5 * severity * ring(strikes, 3400, 0.002)


def gearbox(rng: Generator, turns: np.ndarray, speed: float, severity: float) -> np.ndarray:
    """Turn a gear of 23 teeth, modulated by its shaft; the fault is a broken tooth: a knock on each turn."""
    mesh = harmonics(rng, 23 * turns, (0.8, 0.6, 0.4, 0.2)) * (1 + 0.3 * np.sin(2 * np.pi * turns))
    oil = band_noise(rng, len(turns), 200, 4000)
    return mesh + 0.5 * oil + 3.2 * severity * ring(ticks(turns), 1700, 0.006)


def slider(rng: Generator, turns: np.ndarray, speed: float, severity: float) -> np.ndarray:
    """Move a carriage back and forth, loudest and brightest when fast; the fault is a dry rail, which then squeals."""
    stroke = np.abs(np.sin(2 * np.pi * turns))
    friction = band_noise(rng, len(turns), 400, 2500 * speed) * stroke
    pitch = 1500 * rng.uniform(0.95, 1.05) * (1 + 0.1 * stroke)  # Hz
    squeal = harmonics(rng, np.cumsum(pitch) / SAMPLE_RATE, (1.0, 0.7, 0.5)) * stroke**2
    return 1.4 * friction + 3 * ring(ticks(2 * turns), 300, 0.02) + 1.2 * severity * squeal


def valve(rng: Generator, turns: np.ndarray, speed: float, severity: float) -> np.ndarray:
    """Open and close a solenoid valve; the fault is dirt in its seat: it leaks, and sometimes closes silently."""
    opens, shuts = ticks(turns), ticks(turns + 0.6)
    shuts = shuts * (rng.random(len(turns)) >= 0.35 * severity)
    air = band_noise(rng, len(turns), 2000, 7000) * (10 ** rng.uniform(-1.3, -0.6) + 0.45 * severity)
    return 4 * ring(opens, 1100, 0.015) + 4 * ring(shuts, 2100, 0.008) + air


def toy_car(rng: Generator, turns: np.ndarray, speed: float, severity: float) -> np.ndarray:
    """Drive a car: a motor's whine, the tyres' noise; the fault is a wheel that drags on each turn."""
    tyres = band_noise(rng, len(turns), 100, 2500)
    drag = band_noise(rng, len(turns), 2600, 3600) * (np.mod(turns / 8, 1) < 0.4)
    return harmonics(rng, 11 * turns, (0.7, 0.5, 0.4, 0.3, 0.1)) + 0.6 * tyres + 0.65 * severity * drag


def toy_train(rng: Generator, turns: np.ndarray, speed: float, severity: float) -> np.ndarray:
    """Drive a train: a motor's whine, wheels clicking on rail joints; the fault is a flat wheel, which thumps."""
    whine = harmonics(rng, 7 * turns, (0.5, 0.5, 0.3, 0.3, 0.2)) + 0.6 * band_noise(rng, len(turns), 100, 4000)
    joints = ticks(turns / 12) + 0.7 * ticks(turns / 12 + 0.2)
    return whine + 3 * ring(joints, 2600, 0.01) + 3 * severity * ring(ticks(turns / 3), 500, 0.01)


# By machine type: its sound, and the settings that each domain's clips cycle through (attributes in names -> speed)
MACHINES: dict[str, tuple] = {
    "ToyCar": (toy_car, {"source": {"spd_28V": 28, "spd_31V": 31, "spd_34V": 34}, "target": {"spd_40V": 40}}),
    "ToyTrain": (toy_train, {"source": {"spd_6": 36, "spd_7": 42}, "target": {"spd_8": 48}}),
    "fan": (fan, {"source": {"m-n_W": 24, "m-n_X": 26}, "target": {"m-n_Y": 29, "m-n_Z": 31}}),
    "gearbox": (gearbox, {"source": {"volt_15": 15, "volt_18": 18}, "target": {"volt_20": 20, "volt_21": 21}}),
    "bearing": (bearing, {"source": {"vel_12": 12, "vel_16": 16, "vel_20": 20}, "target": {"vel_26": 26}}),
    "slider": (slider, {"source": {"vel_300": 1.6, "vel_400": 2.1}, "target": {"vel_500": 2.7}}),
    "valve": (valve, {"source": {"pat_00": 2, "pat_01": 3}, "target": {"pat_02": 4}}),
}
DEVELOPMENT, EVALUATION = tuple(MACHINES), load_challenge(CHALLENGE, is_eval=True).machine_types
MACHINES |= dict(zip(EVALUATION, MACHINES.values(), strict=True))


def surroundings(rng: Generator, t: np.ndarray, domain: str) -> np.ndarray:
    """Make the noise of a factory hall, 1 rms within 3 dB, brighter in the target domain, with a few distant clanks."""
    low, high = (60, 1500) if domain == "source" else (100, 2500)
    hall = band_noise(rng, len(t), low, high * 10 ** rng.uniform(-0.15, 0.15)) + 0.3 * rng.standard_normal(len(t))
    clanks = (rng.random(len(t)) < 0.7 / SAMPLE_RATE) * rng.lognormal(0.5, 0.6, len(t))
    return 10 ** rng.uniform(-0.15, 0.15) * hall + ring(clanks, rng.uniform(500, 3000), 0.03)


def record(rng: Generator, name: str, domain: str, speed: float, severity: float, seconds: float) -> np.ndarray:
    """Record a machine in its surroundings, with a microphone somewhere near a wall: (n_samples,), within -1 and 1."""
    t = np.arange(round(seconds * SAMPLE_RATE)) / SAMPLE_RATE
    clip = MACHINES[name][0](rng, turns_of(rng, t, speed), speed, severity)
    clip = clip + SURROUNDINGS_LEVEL * surroundings(rng, t, domain)
    delay = rng.integers(5, 60)  # samples
    clip[delay:] += rng.uniform(0, 0.2) * clip[:-delay]
    return np.clip(MACHINE_LEVEL * 10 ** rng.uniform(-0.05, 0.05) * clip, -1, 1)


def clip_plan(name: str, args: argparse.Namespace) -> Iterator[tuple[str, str, str, int, float, str]]:
    """Yield (split, domain, label, number, speed, labelled name) of a machine type's clips; groups count from 0."""
    n_target = max(1, args.train_clips // TARGET_SHARE)
    sizes = {("train", "source", "normal"): args.train_clips - n_target, ("train", "target", "normal"): n_target}
    sizes |= {
        ("test", *group): args.test_clips // 4
        for group in itertools.product(("source", "target"), ("normal", "anomaly"))
    }
    for (split, domain, label), size in sizes.items():
        settings = itertools.cycle(MACHINES[name][1][domain].items())
        for i, (attributes, speed) in zip(range(size), settings, strict=False):
            yield split, domain, label, i, speed, f"section_00_{domain}_{split}_{label}_{i:04d}_{attributes}.wav"


def published_names(name: str, args: argparse.Namespace) -> dict[str, str]:
    """Map the published names of the evaluation set's test clips to their labelled names, shuffled."""
    labelled = [file for split, *_, file in clip_plan(name, args) if split == "test"]
    np.random.default_rng([args.seed, list(MACHINES).index(name)]).shuffle(labelled)
    return {f"section_00_{i:04d}.wav": file for i, file in enumerate(labelled)}


def write_machine_type(folder: Path, name: str, args: argparse.Namespace) -> None:
    """Write the clips of the machine type `name` to folder/{train,test}."""
    for split in ("train", "test"):
        (folder / split).mkdir(parents=True)
    published = {file: new for new, file in published_names(name, args).items()} if name in EVALUATION else {}
    for split, domain, label, i, speed, file in clip_plan(name, args):
        group = (list(MACHINES).index(name), split == "test", domain == "target", label == "anomaly")
        rng = np.random.default_rng([args.seed, *map(int, group), i])
        severity = 0.2 + (1.0 - 0.2) * (i * GOLDEN_RATIO % 1) if label == "anomaly" else 0.0  # from faint to obvious
        clip = record(rng, name, domain, speed, severity, args.clip_seconds)
        soundfile.write(folder / split / published.get(file, file), clip, SAMPLE_RATE, subtype="PCM_16")


def make_dataset(args: argparse.Namespace) -> None:
    """Write the demo data set, each machine type completely or not at all; those made before are left alone."""
    options = {name: getattr(args, name) for name in ("seed", "train_clips", "test_clips", "clip_seconds")}
    marker = json.dumps({**MADE_BY, **options}, indent=2) + "\n"
    names = load_challenge(CHALLENGE, args.eval).choose(args.machine_types)
    if args.eval:
        blocks = {name: published_names(name, args).items() for name in EVALUATION}
        lines = [line for name, pairs in blocks.items() for line in (name, *map(",".join, pairs))]
        path, text = label_list_path(CHALLENGE, args.directory), "\n".join(lines) + "\n"
        if path.exists() and path.read_text(encoding="utf-8") != text:
            raise InputError(f"{path} holds other labels; give another DIRECTORY")
        with atomic_write(path) as file:
            file.write(text)
    for name in names:
        folder = MachineFolders(args.directory, CHALLENGE, name, args.eval).raw
        if folder.exists():
            if not (folder / MARKER).is_file() or (folder / MARKER).read_text() != marker:
                raise InputError(f"{folder} holds something else (see its {MARKER}, if any); give another DIRECTORY")
        else:
            folder.parent.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(prefix=f".{name}.", dir=folder.parent) as temporary:
                write_machine_type(Path(temporary, name), name, args)
                Path(temporary, name, MARKER).write_text(marker)
                Path(temporary, name).rename(folder)
        print(f"{name}: {args.train_clips} train and {args.test_clips} test clips", flush=True)


@command
def main() -> None:
    """Make what the command line asks for."""
    parser = argparse.ArgumentParser(
        description="Write synthetic demo clips to DIRECTORY, in the challenge's layout.", allow_abbrev=False
    )
    parser.add_argument("directory", type=option_type(PATH), metavar="DIRECTORY", help="data set directory")
    parser.add_argument("-e", "--eval", action="store_true", help="make the evaluation set and its label list instead")
    text = f"{', '.join(DEVELOPMENT)}; with --eval {', '.join(EVALUATION)} [default: all]"
    parser.add_argument("--machine_types", nargs="+", default=[], metavar="NAME", help=text)
    for name, kind, default, text in (
        ("seed", integer(0), 0, "the same seed gives the same bytes"),
        ("train_clips", integer(2), 66, "clips per machine type; 1/11 are from the target domain"),
        ("test_clips", number("4, 8, 12, ...", lambda n: n in range(4, 10**6, 4), int), 40, "clips per machine type"),
        ("clip_seconds", number("0.5 to 60", lambda seconds: 0.5 <= seconds <= 60), 2.0, "seconds per clip"),
    ):
        text = f"{text} [{kind.allowed}; default: {default}]"
        parser.add_argument(f"--{name}", type=option_type(kind), default=default, metavar="N", help=text)
    make_dataset(parser.parse_args())


if __name__ == "__main__":
    sys.exit(main())

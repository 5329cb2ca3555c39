"""The scripts' command line: machine types, number of parallel jobs, and every parameter."""

import argparse
from collections.abc import Sequence

from common import PATH, SEEDS, Settings, choice, integer, option_type, optional, parse_settings

from datasets.catalogue import runnable_names

DEFAULT_CHALLENGE = "DCASE2023T2"
JOBS_HELP = (
    "number of jobs (one per machine type and section) to run in parallel; results do not depend on it [default: one "
    "per core, as far as memory allows]; with 1, the first failure ends the run"
)


def make_parser(
    prog: str,
    description: str,
    is_training: bool,
    is_legacy: bool = False,
    jobs_help: str = JOBS_HELP,
    dry_run_help: str = "print the commands of the jobs, one per line",
) -> argparse.ArgumentParser:
    """Return the parser of a script's own options; parse_jobs adds the parameters."""
    parser = argparse.ArgumentParser(
        prog=prog,
        usage=f"{prog}{' CHALLENGE' if is_legacy else ''} (-d | -e) [MACHINE_TYPE ...] [option ...]",
        description=description,
        epilog="Defaults are those of baseline.yaml. Exit status: 0 done, 1 failed, 2 wrong usage.",
        allow_abbrev=False,
    )
    challenge = option_type(choice(*runnable_names()))
    parser.set_defaults(challenge=DEFAULT_CHALLENGE, restart=False, checkpoint_path=None)
    what = parser.add_argument_group("what to do")
    if is_legacy:
        what.add_argument("challenge", type=challenge, metavar="CHALLENGE", help=", ".join(runnable_names()))
    what.add_argument(
        "machine_types",
        nargs="*",
        metavar="MACHINE_TYPE",
        help="for example fan ToyCar [default: all of the challenge]",
    )
    subset = what.add_mutually_exclusive_group(required=True)
    subset.add_argument("-d", "--dev", action="store_true", help="development data set")
    subset.add_argument("-e", "--eval", action="store_true", help="evaluation data set")
    if not is_legacy:
        what.add_argument(
            "--challenge",
            type=challenge,
            metavar="NAME",
            help=f"{', '.join(runnable_names())} [default: {DEFAULT_CHALLENGE}]; MINE: your own machines, the folders "
            "in mine/dev_data/raw",
        )
    what.add_argument(
        "--seeds",
        nargs="+",
        type=_seed_or_machine_type,
        default=(),
        metavar="N",
        help="run a job for each of these seeds; 03_summarize_results.sh --seeds gives mean and deviation",
    )
    what.add_argument("-j", "--jobs", type=option_type(integer(1, 1000)), metavar="N", help=jobs_help)
    what.add_argument("--dry_run", action="store_true", help=dry_run_help)
    if is_training:
        what.add_argument("--restart", action="store_true", help="resume from each job's checkpoint, if it has one")
        what.add_argument(
            "--checkpoint_path",
            type=option_type(optional(PATH)),
            metavar="FILE",
            help="resume from another run's checkpoint",
        )
    return parser


def _seed_or_machine_type(text: str) -> object:
    """Return a seed, or a machine type, which may follow the seeds."""
    return option_type(SEEDS)(text) if text[:1].isdigit() else text


def parse_jobs(parser: argparse.ArgumentParser, words: Sequence[str], names: Sequence[str]) -> Settings:
    """Add the named parameters to a parser and parse a command line."""
    settings = parse_settings(parser, words, names)
    seeds = tuple(dict.fromkeys(word for word in settings.seeds if isinstance(word, int)))
    if settings.seeds and not seeds:
        parser.error("--seeds takes one or more whole numbers")
    if seeds and "seed" in settings.given:
        parser.error("--seed and --seeds: give one of them")
    after_seeds = [word for word in settings.seeds if isinstance(word, str)]
    return settings.replace(seeds=seeds, machine_types=[*settings.machine_types, *after_seeds])

"""The command line of the scripts: which machine types to run, how many jobs at once, and every parameter."""

import argparse
from collections.abc import Sequence

from common import BY_NAME, PATH, Settings, choice, integer, option_type, parse_settings
from datasets.catalogue import runnable_names

DEFAULT_CHALLENGE = "DCASE2023T2"
SET_BY_SCRIPT = ("--dataset", "--use_ids", "-tag", "--model_name_suffix", "--train_only", "--test_only")


def make_parser(prog: str, description: str, is_training: bool, is_legacy: bool = False) -> argparse.ArgumentParser:
    """Return the parser of a script's own options; parse_jobs adds the parameters."""
    parser = argparse.ArgumentParser(
        prog=prog,
        usage=f"{prog}{' CHALLENGE' if is_legacy else ''} (-d | -e) [MACHINE_TYPE ...] [option ...]",
        description=description,
        epilog="Defaults are those of baseline.yaml. Exit status: 0 done, 1 failed, 2 wrong usage.",
        allow_abbrev=False,
    )
    challenge = option_type(choice(*runnable_names()))
    parser.set_defaults(challenge=DEFAULT_CHALLENGE, restart=False, checkpoint_path=None, seeds=(), after_seeds=())
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
        action=_Seeds,
        metavar="N",
        help="a job for each of these seeds; 03_summarize_results.sh --seeds gives mean and deviation",
    )
    what.add_argument(
        "-j",
        "--jobs",
        type=option_type(integer(1, 1000)),
        metavar="N",
        help="jobs, of a machine type's section each, to run side by side; no result depends on it [default: one a "
        "core, as far as memory reaches]; with 1, the first that fails ends the run",
    )
    what.add_argument("--dry_run", action="store_true", help="print the commands of the jobs, one a line")
    if is_training:
        what.add_argument("--restart", action="store_true", help="resume from each job's checkpoint, if it has one")
        what.add_argument(
            "--checkpoint_path", type=option_type(PATH), metavar="FILE", help="resume from another run's checkpoint"
        )
    for option in (*SET_BY_SCRIPT, *(("--score",) if is_training else ())):
        parser.add_argument(option, nargs="*", default=argparse.SUPPRESS, action=_SetByScript, help=argparse.SUPPRESS)
    return parser


class _Seeds(argparse.Action):
    """Takes numbers; what follows them is machine types."""

    def __call__(self, parser, namespace, values, option_string=None):
        """Store the seeds."""
        seed = option_type(BY_NAME["seed"].type)
        digits = next((i for i, word in enumerate(values) if not word[0:1].isdigit()), len(values))
        try:
            namespace.seeds = tuple(dict.fromkeys(seed(word) for word in values[: max(1, digits)]))
        except argparse.ArgumentTypeError as error:
            raise argparse.ArgumentError(self, str(error)) from None
        namespace.after_seeds = values[max(1, digits) :]


class _SetByScript(argparse.Action):
    """Refuses an option of train.py that a script gives to each job itself."""

    def __call__(self, parser, namespace, values, option_string=None):
        """Refuse it."""
        parser.error(f"{option_string} is set by this script for each job; call train.py itself to choose it")


def parse_jobs(parser: argparse.ArgumentParser, words: Sequence[str], names: Sequence[str]) -> Settings:
    """Add the named parameters to a parser and parse a command line."""
    settings = parse_settings(parser, words, names)
    if settings.seeds and "seed" in settings.given:
        parser.error("--seed and --seeds: give one of them")
    return settings.replace(machine_types=[*settings.machine_types, *settings.after_seeds])

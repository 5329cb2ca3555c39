#!/usr/bin/env python3
"""Train and test the DCASE 2023 Task 2 baseline on one data set (a challenge's machine type) and its sections.

The scripts 01_train.sh, 02a_test.sh and 02b_test.sh call this once for each machine type.
"""

import argparse
import sys
from dataclasses import fields

from common import ExperimentPaths, run_command, select_device, set_instruction_set
from tools.options import PATH, SECTION, TAG, add_parameters, option_type, read_defaults
from tools.progress import Stopwatch


def parse_arguments(argv: list[str] | None = None) -> argparse.Namespace:
    """Parse the command line on top of baseline.yaml.

    Raises
    ------
    InputError
        baseline.yaml is not as it should be. (A wrong command line exits with status 2.)
    """
    parser = argparse.ArgumentParser(
        prog="train.py",
        usage="train.py --dataset NAME (-d | -e) [option ...]",
        description="Train and test the DCASE 2023 Task 2 baseline on one data set.",
        epilog="Defaults are those of baseline.yaml. Exit status: 0 done, 1 failed, 2 wrong usage.",
        allow_abbrev=False,
    )
    run = parser.add_argument_group("what to do")
    run.add_argument("--dataset", required=True, metavar="NAME", help="challenge and machine type, e.g. DCASE2023T2fan")
    split = run.add_mutually_exclusive_group(required=True)
    split.add_argument("-d", "--dev", action="store_true", help="development data set")
    split.add_argument("-e", "--eval", action="store_true", help="evaluation data set")
    run.add_argument(
        "--use_ids",
        nargs="+",
        type=option_type(SECTION),
        metavar="N",
        help="sections, e.g. 0 [default: all that there are]",
    )
    run.add_argument(
        "-tag",
        "--model_name_suffix",
        type=option_type(TAG),
        default="",
        metavar="TAG",
        help="added to the names of all files [default: none]",
    )
    stage = run.add_mutually_exclusive_group()
    stage.add_argument("--train_only", action="store_true", help="train, do not test")
    stage.add_argument("--test_only", action="store_true", help="test with the network that was trained before")
    run.add_argument(
        "--restart", action="store_true", help="continue training from this run's checkpoint, if it has one"
    )
    run.add_argument(
        "--checkpoint_path",
        type=option_type(PATH),
        metavar="FILE",
        help="continue training from another run's checkpoint",
    )
    add_parameters(parser, read_defaults())
    return parser.parse_args(argv)


def main() -> int:
    """Run the command line and return the exit status."""
    return run_command(lambda: run(parse_arguments()))


def experiment_paths(args: argparse.Namespace) -> ExperimentPaths:
    """Return the names of the files of the run that the arguments say."""
    return _pick(ExperimentPaths, args, tag=args.model_name_suffix, is_eval=args.eval)


def run(args: argparse.Namespace) -> None:
    """Train and test as the arguments say; below this function nobody knows of arguments."""
    watch = Stopwatch()
    set_instruction_set(args.instruction_set)
    from datasets.catalogue import load_challenge, split_dataset_name
    from datasets.clips import MachineFolders
    from datasets.features import FeatureConfig
    from datasets.loaders import ClipSource, VectorConfig
    from tools.testing import TestConfig, run_test
    from tools.training import TrainingConfig, run_training

    challenge, machine_type = split_dataset_name(args.dataset)
    channels = load_challenge(challenge, args.eval, args.dataset_directory).channels
    source = ClipSource(
        folders=MachineFolders(args.dataset_directory, challenge, machine_type, args.eval),
        sections=args.use_ids,
        features=_pick(FeatureConfig, args, channels=channels),
        vectors=_pick(VectorConfig, args),
        cache_directory=args.cache_directory,
    )
    paths = experiment_paths(args)
    watch.lap("imports")
    if args.is_auto_download:
        from tools.data_download import download_for_run

        download_for_run(source.folders, not args.test_only, not args.train_only, args.mirror)
        watch.lap("download")
    device = select_device(args.use_cuda, args.gpu_id, args.threads)
    if not args.test_only:
        config = _pick(TrainingConfig, args)
        run_training(source, config, paths, device, watch, resume_from=args.checkpoint_path, restart=args.restart)
    if not args.train_only:
        run_test(source, _pick(TestConfig, args), paths, device, watch)
    print(watch, flush=True)


def _pick(config_class: type, args: argparse.Namespace, **others):
    """Make a configuration from the arguments of the same names as its fields, and `others`."""
    names = [field.name for field in fields(config_class) if field.name not in others]
    return config_class(**{name: getattr(args, name) for name in names}, **others)


if __name__ == "__main__":
    sys.exit(main())

#!/usr/bin/env python3
"""A clip as a network sees it: input, reconstruction and error side by side."""

import argparse
import sys
from pathlib import Path

if not __package__:  # run as a script: import from the repository, not from this folder
    sys.path[0] = str(Path(__file__).resolve().parents[1])

from common import PATH, InputError, option_type, parse_settings

import torch

from networks.trained import load_trained
from runtime.command import command
from runtime.files import atomic_write
from tools.report.time_frequency import draw_time_frequency, reconstruct
from tools.results.plots import number_text, to_png


@command
def main() -> None:
    """Draw the clip that the command line names."""
    parser = argparse.ArgumentParser(
        prog="python -m tools.plot_time_frequency",
        description="Draw a clip's input, its reconstruction by a network, and the error.",
        epilog="Parameters come from the network's record (MODEL.json), or from baseline.yaml if it has none.",
        allow_abbrev=False,
    )
    parser.add_argument("network", type=option_type(PATH), metavar="MODEL.pth", help="a trained network")
    parser.add_argument("clip", type=option_type(PATH), metavar="CLIP.wav", help="a recording")
    parser.add_argument("--output", type=option_type(PATH), required=True, metavar="PICTURE.png", help="what to write")
    settings = parse_settings(parser, names=["model"])

    trained = load_trained(settings.network, settings, torch.device("cpu"))
    if not trained.network.reconstructs:
        raise InputError(f"{trained.settings.model} does not reconstruct clips; give a network that does")
    clip = reconstruct(trained, settings.clip)
    error = f"mean squared error {number_text(clip.mean_squared_error)} {clip.unit}²"
    figure = draw_time_frequency([clip], f"{settings.clip.name}\n{error}")
    with atomic_write(settings.output, "wb") as file:
        file.write(to_png(figure))
    print(f"wrote {settings.output}", flush=True)


if __name__ == "__main__":
    sys.exit(main())

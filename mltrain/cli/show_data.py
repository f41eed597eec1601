"""Draw what the model will see of the data: a contact sheet of the first examples, as a PNG file.

Examples of the training split are augmented and mixed exactly as in the first epoch of a run with this configuration
(or another epoch); those of other splits as in evaluation. Every key can be set as section.key=value:

  mltrain show-data --config configs/x.yaml --split train data.transforms.train.trivial_augment=true
"""

from __future__ import annotations

import argparse

__all__ = ["add_arguments", "run"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the configuration, what is shown of which split, and the file."""
    parser.add_argument("--config", metavar="FILE", required=True, help="YAML file")
    parser.add_argument("--split", default="train", help="train (default), val or test")
    parser.add_argument("--count", type=int, default=32, metavar="N", help="examples shown (default: 32)")
    parser.add_argument("--epoch", type=int, default=0, metavar="N", help="epoch of the training split (default: 0)")
    parser.add_argument(
        "--output", default="contact_sheet.png", metavar="FILE", help="PNG file (default: contact_sheet.png)"
    )
    parser.add_argument("--overwrite", action="store_true", help="replace the file if it is there")
    parser.add_argument("overrides", nargs="*", metavar="section.key=value", help="any key of the configuration")


def run(arguments: argparse.Namespace) -> int:
    """Draw, say where, and return 0."""
    from mltrain.config.load import parse_overrides

    overrides = parse_overrides(arguments.overrides)

    from mltrain.workflows.show_data import show_data

    count = show_data(
        arguments.config,
        overrides,
        split=arguments.split,
        count=arguments.count,
        epoch=arguments.epoch,
        output=arguments.output,
        overwrite=arguments.overwrite,
        by_hand="command line",
    )
    print(f"{count} examples of {arguments.split} in {arguments.output}")
    return 0

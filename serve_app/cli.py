"""`serve-app` starts the graph, shows it and calls it. `run`, `check`, `demo`, `drums`, `drums-eval`, `music`,
`keys`, `models fetch` and `models check` need no running service."""

from __future__ import annotations

import argparse
import json
import pkgutil
import sys
import uuid
from collections.abc import Sequence
from pathlib import Path

from serve_app import __version__
from serve_app.commands.drums import command as drums_command
from serve_app.commands.keys import command as keys_command
from serve_app.commands.models import command as models_command
from serve_app.commands.music import command as music_command
from serve_app.commands.transcribe import command as transcribe_command
from serve_app.errors import ServeAppError
from serve_app.extras import extras_with
from serve_app.settings import Settings, SettingsError, service_url

_CONFIGS = Path(__file__).parent / "configs"
_DEFAULT_CONFIG = _CONFIGS / "local.yaml"
_CONFIG_HELP = "yours; or local.yaml (the default), gpu.yaml, gpu-music.yaml or cluster.yaml, which come with serve_app"


def main(argv: Sequence[str] | None = None) -> None:
    """Run the command and exit: 0 if it succeeded, 1 if not, 2 if its arguments are wrong."""
    arguments = _parser().parse_args(argv)
    try:
        # a name, so that a command imports only what it needs itself
        sys.exit(pkgutil.resolve_name(arguments.command)(arguments))
    except SettingsError as error:
        sys.exit(f"serve-app: a setting in the environment is not allowed:\n{error}")
    except ServeAppError as error:
        sys.exit(f"serve-app: {error.detail or error.code}")
    except ModuleNotFoundError as error:
        extras = [f"'serve_app[{extra}]'" for extra in extras_with(error.name or "")]
        if not extras:
            raise
        sys.exit(
            f"serve-app: this command needs {error.name}, which is not installed: pip install {' or '.join(extras)}"
        )
    except KeyboardInterrupt:
        sys.exit(130)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="serve-app", description=__doc__)
    parser.add_argument("--version", action="version", version=__version__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    run = commands.add_parser("run", help="start Ray and the graph on this machine from a Serve config file")
    run.add_argument("config", type=_config, nargs="?", default=_DEFAULT_CONFIG, help=_CONFIG_HELP)
    run.add_argument("--port", type=int, help="HTTP port instead of the config's")
    run.add_argument("--ray-dir", type=Path, help="folder of this cluster (default: STATE/run/PORT)")
    run.add_argument("--dashboard", action="store_true", help="also start Ray's dashboard (serve status, serve deploy)")
    run.add_argument("--num-cpus", type=int, help="logical CPUs instead of the machine's")
    run.add_argument("--num-gpus", type=int, help="logical GPUs instead of the machine's")
    run.set_defaults(command=f"{__name__}:_run")

    check = commands.add_parser("check", help="check Serve config files strictly: a misspelt key is an error")
    check.add_argument("configs", type=_config, nargs="+")
    check.set_defaults(command=f"{__name__}:_check")

    demo = commands.add_parser(
        "demo", help="start the graph and run three real video jobs and a piece of music to their last callback"
    )
    demo.add_argument("--config", type=Path, default=_DEFAULT_CONFIG)
    demo.add_argument("--keep", type=Path, metavar="FOLDER", help="keep results, logs and state there")
    demo.set_defaults(command="serve_app.commands.demo.show:show")

    base = argparse.ArgumentParser(add_help=False)
    base.add_argument("--url", default=service_url(), help="of the ingress")
    submit = commands.add_parser("submit", parents=[base], help="submit a video job and follow it to its end")
    submit.add_argument("video_url")
    submit.add_argument("--job-id", help="a new UUID by default")
    submit.add_argument("--language", default="auto")
    submit.add_argument("--num-speakers", type=int)
    submit.add_argument("--callback-base", help="fastapi_base_url of the receiver")
    submit.add_argument("--no-wait", action="store_true")
    submit.set_defaults(command=f"{__name__}:_submit")

    transcribe_command.add_command(commands, [base])
    drums_command.add_commands(commands)
    music_command.add_command(commands)
    models_command.add_commands(commands, [base])
    keys_command.add_command(commands)

    job = commands.add_parser("job", parents=[base], help="show, cancel or delete a job")
    job.add_argument("action", choices=["show", "cancel", "delete", "deliveries", "replay"])
    job.add_argument("job_id")
    job.set_defaults(command=f"{__name__}:_job")
    return parser


def _config(text: str) -> Path:
    """Return a config file's path; a bare name that is not in this folder may be one that comes with serve_app."""
    path = Path(text)
    packaged = _CONFIGS / path.name
    return packaged if path.name == text and not path.exists() and packaged.is_file() else path


def _run(arguments: argparse.Namespace) -> int:
    from serve_app.launch.launch import launch

    for warning in Settings.from_environment().warnings():
        sys.stderr.write(f"serve-app: {warning}\n")
    options = ("port", "ray_dir", "dashboard", "num_cpus", "num_gpus")
    launch(arguments.config, **{name: getattr(arguments, name) for name in options})
    return 0


def _check(arguments: argparse.Namespace) -> int:
    from serve_app.launch.config_check import check_config
    from serve_app.launch.launch import load_config

    for config in arguments.configs:
        check_config(load_config(config))
        _print(f"{config}: good")
    return 0


def _submit(arguments: argparse.Namespace) -> int:
    from serve_app.client import Client

    job_id = arguments.job_id or str(uuid.uuid4())
    with Client(arguments.url) as client:
        optional = {"num_speakers": arguments.num_speakers, "fastapi_base_url": arguments.callback_base}
        given = {name: value for name, value in optional.items() if value is not None}
        _print_json(client.submit(arguments.video_url, job_id=job_id, language=arguments.language, **given))
        if arguments.no_wait:
            return 0
        for event in client.events(job_id):
            _print_json({name: value for name, value in event.payload.items() if name != "result"})
        job = client.get(job_id)
    _print_json(job)
    return 0 if job["status"] == "completed" else 1


def _job(arguments: argparse.Namespace) -> int:
    from serve_app.client import Client

    with Client(arguments.url) as client:
        method = "get" if arguments.action == "show" else arguments.action
        answer = getattr(client, method)(arguments.job_id)
    if answer is not None:
        _print_json(answer)
    return 0


def _print_json(value: object) -> None:
    _print(json.dumps(value, ensure_ascii=False, indent=2))


def _print(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()

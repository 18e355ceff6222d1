"""The arguments of `serve-app keys create|list|revoke`."""

from __future__ import annotations

from typing import Any

SCOPES = ("submit", "read", "read-all", "admin")  # jobs/record.py: Scope
_ACTIONS = "serve_app.commands.keys.actions"


def add_command(commands: Any) -> None:
    """Add the command to `commands`, which `add_subparsers` returned."""
    keys = commands.add_parser(
        "keys",
        help="create, list and revoke API keys; needs no server",
        description="Works on the database of SERVE_APP_DATABASE_URL (default: of SERVE_APP_STATE_DIR), which must be "
        "the service's. A running service follows within ten seconds.",
    )
    actions = keys.add_subparsers(required=True, metavar="ACTION")

    create = actions.add_parser(
        "create",
        help="make a key and print its secret, once",
        description="submit: jobs and synchronous requests, and the key's own jobs cancelled, removed, replayed. read: "
        "the key's own jobs. read-all: everybody's jobs. admin: all of these, models, and details of readiness.",
    )
    create.add_argument("name", metavar="NAME", help="whose key it is, e.g. backend")
    create.add_argument(
        "--scope",
        dest="scopes",
        action="append",
        choices=SCOPES,
        help="may be given several times; default: submit and read",
    )
    create.add_argument("--requests-per-minute", type=int, metavar="N", help="that each ingress replica answers")
    create.add_argument("--jobs-in-work", type=int, metavar="N", help="jobs that may wait or be in work at once")
    create.set_defaults(command=f"{_ACTIONS}:create")

    listing = actions.add_parser("list", help="list all keys, without their secrets")
    listing.set_defaults(command=f"{_ACTIONS}:show")

    revoke = actions.add_parser("revoke", help="make a key invalid for good; its jobs stay")
    revoke.add_argument("key", metavar="ID_OR_NAME")
    revoke.set_defaults(command=f"{_ACTIONS}:revoke")

    for action in (create, listing, revoke):
        action.add_argument("--json", action="store_true")

"""`check_folder`: refuses a folder in Hugging Face form with a pickle that torch must not read."""

from __future__ import annotations

import json
from pathlib import Path

from serve_app.models.pickled.machine import Refused
from serve_app.models.pickled.reader import read_checkpoint
from serve_app.sentences import Sentence, reason_of

_PICKLED = "pytorch_model.bin"
# of a config: files of weights, or an index of them, and of configs, that transformers reads instead
_WEIGHTS, _CONFIGS = "transformers_weights", "configuration_files"


def check_folder(folder: Path) -> None:
    """Read each file that transformers would unpickle in a folder.

    Raises:
        Refused: the rest of a sentence that begins with the folder's name.
        OSError: a file can't be read.
    """
    names = {_PICKLED} if (folder / _PICKLED).is_file() else set()
    for index in sorted(folder.glob("*.index.json")):
        try:
            names |= {str(name) for name in json.loads(index.read_bytes())["weight_map"].values()}
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise Refused(Sentence("has a damaged {name}", name=index.name)) from error
    for name in sorted(names | _named_in_configs(folder)):
        if Path(name).name != name:
            raise Refused(Sentence("names a file outside of it: {name}", name=repr(name[:200])))
    for name in sorted(names):
        if not name.endswith(".safetensors"):
            try:
                read_checkpoint(folder / name)
            except Refused as error:
                raise Refused(
                    Sentence("has a {name} that is not read: {reason}", name=name, reason=reason_of(error))
                ) from error


def _named_in_configs(folder: Path) -> set[str]:
    """Return what configs name in place of the usual files; transformers takes safetensors and indexes of them only."""
    names: set[str] = set()
    for path in folder.glob("*config*.json"):
        try:
            config = json.loads(path.read_bytes())
        except ValueError:  # transformers says so itself
            continue
        if isinstance(config, dict):
            others = config.get(_CONFIGS)
            named = [config.get(_WEIGHTS), *(others if isinstance(others, list) else [others])]
            names |= {str(name) for name in named if name is not None}
    return names

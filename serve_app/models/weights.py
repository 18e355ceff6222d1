"""`fetch_weights`: the local files of a model that an operator names.

| spec | means |
| --- | --- |
| `embedded:NAME` | a model that comes with serve_app |
| `/folder`, `./file.pth`, `~/model` | a local file or folder |
| `whisper-base`, `base` | a model of the catalog, or an alias of one: its folder (a relative path of that name wins) |
| `ORG/NAME`, `ORG/NAME@REVISION` | a repository on the Hugging Face hub (a relative path of that name wins) |
| `https://…/file`, with `#sha256=HEX` where wanted | one file; `http://` only with its hash |
| `s3://…`, `gs://…`, any fsspec URL | one file, or a folder of files |

A spec comes from the operator's configuration alone, never from a request: it can name any file and any address.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import urlsplit

from serve_app.errors import ModelLoadingError
from serve_app.models.catalog import catalog, find_model
from serve_app.models.catalog_fetch import fetch_model
from serve_app.models.hub import fetch_repository
from serve_app.models.url_download import fetch_https, fetch_storage
from serve_app.redaction import shown_spec
from serve_app.sentences import Sentence

_HERE = Path(__file__).parent
EMBEDDED = {
    "beverage-net": _HERE / "images" / "weights" / "beverage_net.safetensors",
    "container-net": _HERE / "images" / "weights" / "container_net.safetensors",
    "drum-net": _HERE / "drums" / "drum_net" / "best_model.pt",
    "whisper-micro": _HERE / "speech" / "whisper_micro",
}

_EMBEDDED_PREFIX = "embedded:"
_REPOSITORY = re.compile(r"(?P<id>[A-Za-z0-9][\w.-]*/[\w.-]+)(@(?P<revision>[\w./-]+))?", re.ASCII)


def fetch_weights(spec: str, cache_dir: Path, hf_token: str | None = None, mirror: str | None = None) -> Path:
    """Return the local file or folder that a spec names, fetched if need be. Blocks; safe in several processes at once.

    Args:
        hf_token: opens gated models on the hub; None: the token that `huggingface-cli login` stored, if any.
        mirror: URL or absolute folder of a mirror of the catalog's models.

    Raises:
        ModelLoadingError: the message gives the reason and a remedy, and never quotes a URL's query or credentials.
    """
    spec = spec.strip()
    if spec.startswith(_EMBEDDED_PREFIX):
        name = spec.removeprefix(_EMBEDDED_PREFIX)
        if name not in EMBEDDED:
            raise ModelLoadingError(
                Sentence(
                    "No model {name} is embedded; there is {embedded}",
                    name=repr(name),
                    embedded=", ".join(sorted(EMBEDDED)),
                )
            )
        if not EMBEDDED[name].exists():
            raise ModelLoadingError(
                Sentence(
                    "The embedded model {name} is not in {embedded}: reinstall serve_app",
                    name=repr(name),
                    embedded=EMBEDDED[name],
                )
            )
        return EMBEDDED[name]
    if "://" in spec:
        fetch = fetch_https if spec.lower().startswith(("https://", "http://")) else fetch_storage
        return fetch(spec, cache_dir / "downloads")
    path = Path(os.path.expanduser(spec))  # leaves an unknown user's as it is
    if spec and path.exists():
        return path.resolve()
    _check_link(path)
    model = find_model(spec)
    if model is not None:
        return fetch_model(model, cache_dir, hf_token=hf_token, mirror=mirror).path
    named = _REPOSITORY.fullmatch(spec)
    if named is None or spec.startswith((".", "~")):
        raise ModelLoadingError(
            Sentence(
                "There is no file or folder {path} (in {cwd}), no model of the catalog has this name, and it is no "
                "Hugging Face id of the form ORG/NAME: correct it. The catalog has {catalog}",
                path=repr(str(path)),
                cwd=Path.cwd(),
                catalog=", ".join(model.name for model in catalog()),
            )
        )
    return fetch_repository(named["id"], named["revision"], cache_dir / "hub", hf_token)


def weights_file(
    spec: str, cache_dir: Path, *, what: str, usual_name: str, endings: Sequence[str], hf_token: str | None = None
) -> Path:
    """Return the file of weights that a spec names; in a folder, the file of the usual name or the only one.

    Args:
        what: names the weights in errors: "drum model".
        endings: of files of weights, e.g. ".pt".

    Raises:
        ModelLoadingError: as of `fetch_weights`, or the folder has no such file or several.
    """
    if spec.endswith(tuple(endings)) and "://" not in spec and not Path(spec).expanduser().exists():
        _check_link(Path(spec).expanduser())
        # `model/best_model.pt` looks like an id on the hub, but nobody means that
        raise ModelLoadingError(
            Sentence(
                "There is no file {spec} (in {cwd}): correct the path to the {what}",
                spec=repr(spec),
                cwd=Path.cwd(),
                what=what,
            )
        )
    path = fetch_weights(spec, cache_dir, hf_token)
    if not path.is_dir():
        return path
    named = path / usual_name
    found = [named] if named.is_file() else sorted(each for each in path.iterdir() if each.suffix in endings)
    if len(found) != 1:
        there = ", ".join(each.name for each in found) or f"no {', '.join(endings)} file"
        raise ModelLoadingError(
            Sentence(
                "{spec} is a folder with {there}: name the file, or call it {usual_name}",
                spec=repr(shown_spec(spec)),
                there=there,
                usual_name=usual_name,
            )
        )
    _check_link(found[0])
    return found[0].resolve()


def _check_link(path: Path) -> None:
    """Raise ModelLoadingError where a path, or a folder of it, is a link to nothing; say where the link leads."""
    link = next((part for part in (path, *path.parents) if part.is_symlink() and not part.exists()), None)
    if link is None:
        return
    target = os.readlink(link)
    meant = os.path.normpath(os.path.join(os.path.abspath(link.parent), target))
    raise ModelLoadingError(
        Sentence(
            "{link} is a link to {target}, and there is nothing at {meant}. A relative link starts at the folder that "
            "the link is in, not where `ln` was called: make it again with `ln -sr`, or with an absolute target",
            link=repr(str(link)),
            target=repr(target),
            meant=repr(meant),
        )
    )


def weights_name(spec: str) -> str:
    """Return the name of a spec's model for `model_version`, without folders, hosts and secrets."""
    spec = spec.strip()
    if spec.startswith(_EMBEDDED_PREFIX):
        return spec.removeprefix(_EMBEDDED_PREFIX)
    if "://" in spec:
        return urlsplit(spec).path.rstrip("/").rpartition("/")[2] or urlsplit(spec).netloc.rpartition("@")[2]
    path = Path(os.path.expanduser(spec))
    if path.exists():
        return path.resolve().name
    model = find_model(spec)
    if model is not None:
        return model.name
    return spec if _REPOSITORY.fullmatch(spec) else path.resolve().name

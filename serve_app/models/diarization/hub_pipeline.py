"""`load_hub_pipeline`: a pipeline of pyannote.audio from the hub or a folder, only where the operator allows its code.

pyannote.audio unpickles the checkpoints of a pipeline without a check, and imports the classes that config.yaml names.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import huggingface_hub
import yaml
from pyannote.audio import Pipeline

from serve_app.errors import ModelLoadingError
from serve_app.models.speech.options import PINNED_PIPELINE, require_allowed_pipeline
from serve_app.sentences import Sentence

_CONFIG = "config.yaml"
_CLASSES = (
    "pyannote.audio.pipelines.SpeakerDiarization",
    "pyannote.audio.pipelines.speaker_diarization.SpeakerDiarization",
)
_TOP = {"dependencies", "version", "pipeline", "params", "freeze"}
_MODELS = ("segmentation", "embedding", "plda")
_PARAMETERS = {
    *_MODELS,
    "clustering",
    "der_variant",
    "embedding_batch_size",
    "embedding_exclude_overlap",
    "legacy",
    "segmentation_batch_size",
    "segmentation_step",
}
_COMMIT = re.compile(r"[0-9a-f]{40}")


def load_hub_pipeline(model_id: str, hf_token: str | None, allow_code: bool = False) -> Pipeline:
    """Return a pipeline; its checkpoints may run code.

    Args:
        model_id: ORG/NAME@COMMIT of the hub, or an absolute folder.
        allow_code: whether the operator trusts that revision, or that folder.

    Raises:
        ModelLoadingError: code is not allowed, the revision is not pinned, config.yaml names other classes than
            pyannote's SpeakerDiarization or models without a revision, or it can't be fetched or loaded.
    """
    try:
        require_allowed_pipeline(model_id, allow_code)
    except ValueError as error:
        raise ModelLoadingError(
            Sentence(
                "The diarization pipeline {model_id} is not loaded: {reason}",
                model_id=repr(model_id),
                reason=str(error),
            )
        ) from error
    pinned = PINNED_PIPELINE.fullmatch(model_id)
    name, revision = (pinned["id"], pinned["revision"]) if pinned else (str(Path(model_id).expanduser()), None)
    try:
        if revision is None:
            config = Path(name) / _CONFIG
        else:
            config = Path(huggingface_hub.hf_hub_download(name, _CONFIG, revision=revision, token=hf_token))
        _check(yaml.safe_load(config.read_text(encoding="utf-8")), model_id)
        pipeline = Pipeline.from_pretrained(name, revision=revision, token=hf_token)
    except ModelLoadingError:
        raise
    except Exception as error:  # the hub client, pyannote and torch each raise their own kinds
        raise ModelLoadingError(
            Sentence(
                "Diarization pipeline {model_id} can't be loaded ({kind}: {reason}). Accept its terms on the "
                "hub, set HF_TOKEN, or leave the model id out to use the default networks.",
                model_id=repr(model_id),
                kind=type(error).__name__,
                reason=str(error),
            )
        ) from error
    if pipeline is None:
        raise ModelLoadingError(
            Sentence(
                "Diarization pipeline {model_id} is gated or absent: accept its terms on the hub and set HF_TOKEN.",
                model_id=repr(model_id),
            )
        )
    return pipeline


def _check(config: Any, model_id: str) -> None:
    """Refuse a config.yaml that imports other classes, or takes models from elsewhere without a revision."""
    problem = _problem(config)
    if problem:
        raise ModelLoadingError(
            Sentence(
                "The diarization pipeline {model_id} is refused: its {config} {reason}",
                model_id=repr(model_id),
                config=_CONFIG,
                reason=problem,
            )
        )


def _problem(config: Any) -> str | None:
    pipeline = config.get("pipeline") if isinstance(config, dict) else None
    if not isinstance(pipeline, dict) or not isinstance(pipeline.get("params") or {}, dict):
        return Sentence("describes no pipeline")
    if unknown := set(map(str, config)) - _TOP:
        return Sentence("has {names}, which may import code", names=", ".join(sorted(unknown)))
    if pipeline.get("name") not in _CLASSES:
        named = repr(str(pipeline.get("name"))[:100])
        return Sentence("names the class {named}, where {allowed} is allowed", named=named, allowed=_CLASSES[0])
    parameters = pipeline.get("params") or {}
    if unknown := set(map(str, parameters)) - _PARAMETERS:
        return Sentence("has the parameters {names}, which are not known", names=", ".join(sorted(unknown)))
    for name in _MODELS:
        if name in parameters and not _is_pinned(parameters[name]):
            return Sentence(
                "takes {name} from elsewhere without a commit: give `checkpoint:` and `revision:` of 40 digits",
                name=name,
            )
    return None


def _is_pinned(model: Any) -> bool:
    """Return whether a model lies in the pipeline's own repository, in a folder, or at a commit."""
    if isinstance(model, dict):
        return set(model) <= {"checkpoint", "revision", "subfolder"} and bool(
            _COMMIT.fullmatch(str(model.get("revision")))
        )
    return isinstance(model, str) and model.startswith(("$model", "/"))

"""`Networks`: the segmentation and the embedding that the configuration names, or the embedded ones in their place."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pyannote.audio.core.model import Model
from pyannote.audio.models.segmentation.PyanNet import PyanNet

from serve_app.errors import ModelLoadingError
from serve_app.models.diarization.clustering import ClusteringRule
from serve_app.models.diarization.embedding import WEIGHTS_PATH, EmbeddingModel, fingerprint, load_embedding
from serve_app.models.diarization.segmentation_file import read_segmentation
from serve_app.models.diarization.voices import FusedEmbedding, load_cam_embedding
from serve_app.models.weights import fetch_weights, weights_name
from serve_app.sentences import Sentence


def is_powerset(segmentation: Any) -> bool:
    """Return whether a frame has one class for each set of speakers that talk at once, as in segmentation-3.0."""
    return bool(segmentation.specifications.powerset)


def find_checkpoint() -> Path:
    """Return the checkpoint in the whisperx wheel; ModelLoadingError where there is none."""
    spec = importlib.util.find_spec("whisperx")  # importing it takes seconds
    for folder in (spec.submodule_search_locations if spec is not None else None) or ():
        path = Path(folder) / "assets" / "pytorch_model.bin"
        if path.is_file():
            return path
    raise ModelLoadingError(Sentence("No segmentation checkpoint: install whisperx 3.8, whose wheel carries it."))


def load_segmentation(path: Path | None = None) -> PyanNet:
    """Return the network, in evaluation mode on the CPU.

    segmentation-3.0 separates up to three speakers, two at once, in a chunk of 10 s, with one class for each set of
    speakers ("powerset"). The wheel's network separates up to three in 5 s, with an activity for each; `is_powerset`
    distinguishes the two. The file is a pickle; `pickled.read_checkpoint` reads it, so no code in it can run.

    Args:
        path: the checkpoint; None: the one inside the whisperx wheel.

    Raises:
        ModelLoadingError: the file is missing or broken, or holds another network.
    """
    remedy = (
        Sentence("Fetch the file again.") if path else Sentence("Install the whisperx version of requirements.lock.")
    )
    path = path or find_checkpoint()
    try:
        stored = read_segmentation(path)
        model = PyanNet(**stored.arguments)
        model.specifications = stored.specifications
        model.build()
        # the file has weights of the training loss, too
        wanted = model.state_dict().keys()
        model.load_state_dict({name: tensor for name, tensor in stored.tensors.items() if name in wanted})
    except Exception as error:  # torch raises many kinds on an unknown file
        raise ModelLoadingError(
            Sentence(
                "The segmentation network at {path} can't be loaded ({kind}: {reason}). {remedy}",
                path=path,
                kind=type(error).__name__,
                reason=str(error),
                remedy=remedy,
            )
        ) from error
    return model.eval()


SEGMENTATION = "pyannote-segmentation-3.0"
EMBEDDED_SEGMENTATION = "embedded:whisperx-segmentation"
CAMPPLUS = "campplus-zh-en"
OWN_EMBEDDING = "embedded:speaker-embedding"
EMBEDDINGS = (CAMPPLUS,)

_SEGMENTATION_FILE = "pytorch_model.bin"
_CAMPPLUS_FILE = "campplus_cn_en_common.pt"
# Chosen on synthetic conversations of the tuning speakers: docs/models/diarization.md has the tables.
CAMPPLUS_SHARE = 0.7
_BY_CAMPPLUS = ClusteringRule(stop_similarity=0.6, conflict_penalty=0.06, brevity_bonus=0.12, min_speaker_s=0.8)
_BY_BOTH = ClusteringRule(stop_similarity=0.54, conflict_penalty=0.06, brevity_bonus=0.09, min_speaker_s=0.8)
_BY_OWN = ClusteringRule(stop_similarity=0.46, conflict_penalty=0.15, brevity_bonus=0.12, min_speaker_s=0.8)
# The older segmentation was not tuned with CAM++: it serves only where segmentation-3.0 can't be loaded.
RULES = {
    (False, ("own",)): ClusteringRule(),
    (True, ("own",)): _BY_OWN,
    (False, ("campplus",)): _BY_CAMPPLUS,
    (True, ("campplus",)): _BY_CAMPPLUS,
    (False, ("campplus", "own")): _BY_BOTH,
    (True, ("campplus", "own")): _BY_BOTH,
}

_logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Networks:
    """The networks of a pipeline.

    Attributes:
        segmentation: finds local speakers in a chunk.
        embedding: compares voices.
        rule: the clustering's thresholds, which were tuned for these two.
        version: names both, for `model_version`.
    """

    segmentation: Model
    embedding: Model
    rule: ClusteringRule
    version: str


def load_networks(
    segmentation: str = SEGMENTATION,
    embeddings: Sequence[str] = EMBEDDINGS,
    *,
    cache_dir: Path,
    hf_token: str | None = None,
    mirror: str | None = None,
) -> Networks:
    """Return the networks that the specs name, in evaluation mode on the CPU.

    A network that can't be loaded is reported in the log and replaced: by the whisperx wheel's segmentation, or by the
    other embedding or our own. `version` names the networks that serve.

    Args:
        segmentation: spec for `fetch_weights` of a checkpoint or of a folder with pytorch_model.bin, or
            `embedded:whisperx-segmentation`.
        embeddings: one or two: `embedded:speaker-embedding`, and a spec for `fetch_weights` of a CAM++ checkpoint or of
            a folder with campplus_cn_en_common.pt. Of two, the similarities are added with weights.
        cache_dir: keeps fetched files.
        hf_token: for the hub.
        mirror: URL or folder of a mirror of the catalog.

    Raises:
        ModelLoadingError: a network that comes with the project can't be loaded.
    """
    network, segmentation_name = _load_segmentation(segmentation, cache_dir, hf_token, mirror)
    models: dict[str, tuple[EmbeddingModel, str]] = {}
    for spec in dict.fromkeys(embeddings):
        if spec.strip() == OWN_EMBEDDING:
            models["own"] = _own_embedding()
            continue
        try:
            path = _file_of(fetch_weights(spec, cache_dir, hf_token, mirror), _CAMPPLUS_FILE)
            models["campplus"] = load_cam_embedding(path), f"{weights_name(spec)}-{fingerprint(path)}"
        except ModelLoadingError as error:
            _logger.warning("The speaker embedding %s does not serve, another does: %s", weights_name(spec), error)
    if not models:
        models["own"] = _own_embedding()
    kinds = tuple(sorted(models))
    names = " + ".join(models[kind][1] for kind in kinds)
    embedding = models[kinds[0]][0]
    if len(kinds) == 2:
        embedding = FusedEmbedding(models["campplus"][0], models["own"][0], CAMPPLUS_SHARE).eval()
    rule = RULES[is_powerset(network), kinds]
    return Networks(network, embedding, rule, f"{segmentation_name}, {names}")


def embedded_networks() -> Networks:
    """Return the networks that come with the project, without a download; ModelLoadingError."""
    return load_networks(EMBEDDED_SEGMENTATION, (OWN_EMBEDDING,), cache_dir=Path())


def _load_segmentation(spec: str, cache_dir: Path, hf_token: str | None, mirror: str | None) -> tuple[Model, str]:
    if spec.strip() != EMBEDDED_SEGMENTATION:
        try:
            path = _file_of(fetch_weights(spec, cache_dir, hf_token, mirror), _SEGMENTATION_FILE)
            return load_segmentation(path), f"{weights_name(spec)}-{fingerprint(path)}"
        except ModelLoadingError as error:
            _logger.warning("The segmentation %s does not serve, the embedded one does: %s", weights_name(spec), error)
    return load_segmentation(), f"whisperx-{importlib.metadata.version('whisperx')}"


def _own_embedding() -> tuple[EmbeddingModel, str]:
    return load_embedding(), f"serve-app-embedding-{fingerprint(WEIGHTS_PATH)}"


def _file_of(path: Path, name: str) -> Path:
    """Return the file itself, or the file of that name in a folder; ModelLoadingError."""
    if not path.is_dir():
        return path
    if not (path / name).is_file():
        raise ModelLoadingError(Sentence("There is no {name} in {path}", name=name, path=path))
    return path / name

"""`load_whole`: a transformers model from a local folder, refused where weights are missing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from serve_app.errors import ModelLoadingError
from serve_app.models.pickled import Refused, check_folder
from serve_app.sentences import Sentence, reason_of

# Used in training only; many checkpoints lack it.
_NOT_NEEDED = ("masked_spec_embed",)


def load_whole(
    model_class: Any,
    folder: Path,
    what: str,
    *,
    dtype: torch.dtype = torch.float32,
    use_safetensors: bool | None = None,
) -> Any:
    """Return the folder's model in evaluation mode, on the CPU; nothing is fetched, no code in a pickle is run.

    transformers fills missing weights with random ones and only logs it. Well-known emotion models store theirs under
    other names than the architecture's, so that they would answer by chance.

    Args:
        model_class: a class of transformers, such as AutoModelForCTC.
        what: the model's role, for errors ("The align model").
        dtype: of the weights.
        use_safetensors: True refuses weights in other files.

    Raises:
        ModelLoadingError: it can't be loaded, lacks weights, or has a pickle that `check_folder` refuses.
    """
    try:
        check_folder(folder)
    except (Refused, OSError) as error:
        raise ModelLoadingError(
            Sentence("{what} {folder} {reason}", what=what, folder=folder, reason=reason_of(error))
        ) from error
    try:
        model, loading = model_class.from_pretrained(
            str(folder),
            local_files_only=True,
            trust_remote_code=False,
            weights_only=True,
            output_loading_info=True,
            dtype=dtype,
            use_safetensors=use_safetensors,
        )
    except Exception as error:  # transformers, safetensors and torch each raise their own kinds
        raise ModelLoadingError(
            Sentence(
                "{what} {folder} can't be loaded ({kind}: {reason}). Name a whole folder in Hugging Face form "
                "whose architecture fits.",
                what=what,
                folder=folder,
                kind=type(error).__name__,
                reason=reason_of(error),
            )
        ) from error
    # a key of another shape is raised by transformers itself
    missing = sorted(key for key in loading["missing_keys"] if not key.endswith(_NOT_NEEDED))
    if missing:
        raise ModelLoadingError(
            Sentence(
                "{what} {folder} lacks {num} of its weights, such as {missing}: it would answer by chance. It was "
                "saved for another architecture than its config.json names, or is only pre-trained.",
                what=what,
                folder=folder,
                num=len(missing),
                missing=repr(missing[0]),
            )
        )
    return model.eval()

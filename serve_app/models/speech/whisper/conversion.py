"""`to_hugging_face`, `to_ctranslate2`, `to_openai`: a Whisper checkpoint in another form, converted once per machine.

Results are in `<cache>/converted`. A folder's name depends on the checkpoint's content, the form, the stored number
format and the converter's version, so that a changed checkpoint is converted again. `built_folder` keeps two replicas
from converting the same checkpoint.
"""

from __future__ import annotations

import hashlib
import logging
import re
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

from serve_app.errors import ModelLoadingError
from serve_app.models.built_folder import built_folder
from serve_app.models.speech.whisper.checkpoint import WhisperCheckpoint, open_checkpoint
from serve_app.models.speech.whisper.checkpoint_files import Form
from serve_app.sentences import Sentence

logger = logging.getLogger(__name__)

_VERSION = 1  # changes with the output for the same input
_INTEGER_TYPES = ("int8", "int8_float32", "int8_float16", "int8_bfloat16", "int16")
_HALF_TYPES = ("float16", "bfloat16")
_FLOAT_TYPES = (*_HALF_TYPES, "float32")


def to_hugging_face(checkpoint: WhisperCheckpoint, cache_dir: Path) -> Path:
    """Return the folder of the checkpoint in Hugging Face's form; ModelLoadingError.

    Integers of a quantized CTranslate2 folder are divided by their scales, as that library does in float32, so that all
    backends compute with the same weights.
    """
    from serve_app.models.speech.whisper.writers import hugging_face_format, write_hugging_face

    return _converted(
        checkpoint,
        Form.HUGGING_FACE,
        hugging_face_format(checkpoint),
        cache_dir,
        version("safetensors"),
        lambda folder: write_hugging_face(checkpoint, folder),
    )


def in_hugging_face_form(checkpoint: WhisperCheckpoint, cache_dir: Path) -> WhisperCheckpoint:
    """Return the checkpoint, converted unless it is a Hugging Face folder."""
    if checkpoint.form is Form.HUGGING_FACE:
        return checkpoint
    return open_checkpoint(to_hugging_face(checkpoint, cache_dir), name=checkpoint.name, cache_dir=cache_dir)


def to_ctranslate2(checkpoint: WhisperCheckpoint, cache_dir: Path, compute_type: str | None = None) -> Path:
    """Return the folder of the checkpoint in CTranslate2's form, with tokenizer.json and preprocessor_config.json.

    Args:
        compute_type: of the later computation, by CTranslate2's names; None: any float type, for CTranslate2 converts
            between those while it loads.

    Raises:
        ModelLoadingError: the converter failed, the type is unknown, or the cache can't be written.
    """

    def write(folder: Path) -> None:
        # only for a conversion: it imports torch and transformers
        from serve_app.models.speech.whisper.writers import write_ctranslate2

        write_ctranslate2(in_hugging_face_form(checkpoint, cache_dir), folder, stored)

    stored = stored_format(compute_type, checkpoint.number_format)
    return _converted(checkpoint, Form.CTRANSLATE2, stored, cache_dir, version("ctranslate2"), write)


def to_openai(checkpoint: WhisperCheckpoint, cache_dir: Path) -> Path:
    """Return the `.pt` file of the checkpoint for openai-whisper.

    Raises:
        ModelLoadingError: openai-whisper can't represent this Whisper, or the cache can't be written.
    """
    from serve_app.models.speech.whisper.writers import MODEL_FILE, write_openai

    stored = checkpoint.number_format if checkpoint.number_format in _FLOAT_TYPES else "float32"
    folder = _converted(
        checkpoint, Form.OPENAI, stored, cache_dir, version("torch"), lambda folder: write_openai(checkpoint, folder)
    )
    return folder / MODEL_FILE


def stored_format(compute_type: str | None, number_format: str) -> str:
    """Return the format to store CTranslate2 weights in; ModelLoadingError for an unknown compute type.

    Integers are stored in the compute type. Floats keep their format, but float32 becomes a smaller compute type: it
    takes half the disk and half the time to load.
    """
    if compute_type is None or compute_type in ("default", "auto"):
        return number_format
    if compute_type in _INTEGER_TYPES:
        return compute_type
    if compute_type in _FLOAT_TYPES:
        return compute_type if number_format == "float32" else number_format
    raise ModelLoadingError(
        Sentence(
            "CTranslate2 has no compute type {compute_type}; it has {value}",
            compute_type=repr(compute_type),
            value=", ".join((*_INTEGER_TYPES, *_FLOAT_TYPES)),
        )
    )


def _converted(
    checkpoint: WhisperCheckpoint,
    form: Form,
    number_format: str,
    cache_dir: Path,
    converter_version: str,
    write: Callable[[Path], None],
) -> Path:
    depends_on = (checkpoint.content_hash, form, number_format, converter_version, str(_VERSION))
    key = hashlib.sha256("\n".join(depends_on).encode()).hexdigest()[:16]
    name = re.sub(r"[^\w.-]+", "_", checkpoint.name, flags=re.ASCII).strip("._")
    target = cache_dir / "converted" / f"{name}-{form}-{number_format}-{key}"

    def build(folder: Path) -> None:
        logger.info("Converting %s to %s (%s), once", checkpoint.name, form, number_format)
        try:
            write(folder)
        except (ModelLoadingError, OSError):
            raise
        except Exception as error:  # each converter raises its own kinds
            raise ModelLoadingError(
                Sentence(
                    "{name} can't be converted to {form} ({kind}: {reason}); name another checkpoint, or the "
                    "transformers backend, which needs no conversion",
                    name=checkpoint.name,
                    form=form,
                    kind=type(error).__name__,
                    reason=str(error),
                )
            ) from error

    built_folder(target, build)
    return target

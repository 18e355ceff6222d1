"""`gpu_errors`: turns the errors of any library into ours, exhausted GPU memory apart. Imports no torch."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager

from serve_app.errors import GpuMemoryError, ModelError, ModelLoadingError, ProcessingError, ServeAppError
from serve_app.sentences import Sentence

# torch (CUDA, MPS), CTranslate2, cuBLAS, cuDNN and cuSPARSE as both of them quote them, onnxruntime's arena.
# Not "DefaultCPUAllocator: can't allocate memory": that is the host's.
_OUT_OF_MEMORY = re.compile(
    r"\b(cuda|hip|mps)\b.*\bout of memory"
    r"|cudaErrorMemoryAllocation"
    r"|(CUBLAS|CUDNN|CUSPARSE|CUSOLVER)_STATUS_(ALLOC_FAILED|INSUFFICIENT_RESOURCES)"
    r"|failed to allocate memory for requested buffer",
    re.IGNORECASE | re.DOTALL,
)
_DETAIL_LETTERS = 500


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether an error means that a GPU's memory ran out."""
    if isinstance(error, GpuMemoryError) or type(error).__name__ == "OutOfMemoryError":
        return True
    return isinstance(error, RuntimeError) and bool(_OUT_OF_MEMORY.search(str(error)))


@contextmanager
def gpu_errors(what: str, otherwise: type[ModelError] = ProcessingError) -> Iterator[None]:
    """Raise GpuMemoryError where a library runs out of GPU memory, and `otherwise` for its other errors.

    Args:
        what: the action, to end a sentence with: "transcribing 8 pieces with faster-whisper".
    """
    try:
        yield
    except ServeAppError:
        raise
    except Exception as error:
        if is_out_of_memory(error):
            raise GpuMemoryError(
                Sentence(
                    "The GPU ran out of memory while {what}; give the model a larger share of the GPU, a smaller batch "
                    "or size, or a CPU replica to fall back on",
                    what=what,
                )
            ) from error
        cause = f"{type(error).__name__}: {str(error)[:_DETAIL_LETTERS]}"
        raise otherwise(Sentence("The model failed while {what}: {cause}", what=what, cause=cause)) from error


def counted(number: int, noun: str) -> str:
    """Return a number with its noun, in the plural unless there is one: "1 piece", "8 pieces"."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def loading_errors(what: str) -> AbstractContextManager[None]:
    """Raise ModelLoadingError for the other errors."""
    return gpu_errors(what, ModelLoadingError)

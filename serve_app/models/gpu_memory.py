"""`gpu_errors`: tells a GPU without memory from other failures of any library. Imports neither torch nor CUDA."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager

from serve_app.errors import GpuMemoryError, ModelError, ModelLoadingError, ProcessingError, ServeAppError

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
    """Tell whether an error means that a GPU's memory ran out."""
    if isinstance(error, GpuMemoryError) or type(error).__name__ == "OutOfMemoryError":
        return True
    return isinstance(error, RuntimeError) and bool(_OUT_OF_MEMORY.search(str(error)))


@contextmanager
def gpu_errors(what: str, otherwise: type[ModelError] = ProcessingError) -> Iterator[None]:
    """Turn what a library raises into errors of this project, which pass unchanged.

    Args:
        what: is being done, to begin a sentence with: "transcribing 8 pieces with faster-whisper".
        otherwise: what to raise for anything that is not about GPU memory.

    Raises:
        GpuMemoryError: the GPU has no memory left.
        ModelError: anything else, of the kind `otherwise`.
    """
    try:
        yield
    except ServeAppError:
        raise
    except Exception as error:
        if is_out_of_memory(error):
            raise GpuMemoryError(_no_memory(what)) from error
        raise otherwise(f"{_capital(what)} failed: {_said(error)}") from error


def loading_errors(what: str) -> AbstractContextManager[None]:
    """Do the same while a model is being loaded: what is not about GPU memory becomes a ModelLoadingError."""
    return gpu_errors(what, ModelLoadingError)


def _no_memory(what: str) -> str:
    return (
        f"The GPU ran out of memory while {what}; give the model a larger share of the GPU, a smaller batch or size, "
        "or a CPU replica to fall back on"
    )


def _capital(what: str) -> str:
    return what[:1].upper() + what[1:]


def _said(error: Exception) -> str:
    return f"{type(error).__name__}: {str(error)[:_DETAIL_LETTERS]}"

"""Out of GPU memory is told from other failures, in the words of every library that says so."""

from __future__ import annotations

import pickle

import pytest
import torch

from serve_app.errors import AudioExtractionError, GpuMemoryError, ModelLoadingError, ProcessingError
from serve_app.models.gpu_memory import gpu_errors, is_out_of_memory, loading_errors

NO_MEMORY = [
    torch.cuda.OutOfMemoryError(
        "CUDA out of memory. Tried to allocate 20.00 MiB. GPU 0 has a total capacity of 14 GiB"
    ),
    RuntimeError("CUDA failed with error out of memory"),  # CTranslate2
    RuntimeError("cuBLAS failed with status CUBLAS_STATUS_ALLOC_FAILED"),  # CTranslate2
    RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),  # torch
    RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"),
    RuntimeError("CUDA error: out of memory\nCUDA kernel errors might be asynchronously reported"),
    RuntimeError("MPS backend out of memory (MPS allocated: 17.9 GB)"),
    GpuMemoryError("passed on"),
]
OTHERS = [
    RuntimeError("CUDA error: device-side assert triggered"),
    RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 999 bytes"),  # the host's
    RuntimeError("cuBLAS failed with status CUBLAS_STATUS_NOT_INITIALIZED"),
    MemoryError("out of memory"),
    ValueError("CUDA out of memory"),  # a text about it, not the thing
    RuntimeError("somebody is out of memory, but no GPU"),
]


@pytest.mark.parametrize("error", NO_MEMORY, ids=str)
def test_out_of_memory_is_known(error: Exception) -> None:
    assert is_out_of_memory(error)


@pytest.mark.parametrize("error", OTHERS, ids=str)
def test_other_failures_are_not_taken_for_it(error: Exception) -> None:
    assert not is_out_of_memory(error)


@pytest.mark.parametrize("error", NO_MEMORY[:3], ids=str)
def test_it_becomes_an_error_that_says_what_to_do_and_pickles(error: Exception) -> None:
    with (
        pytest.raises(GpuMemoryError, match="while transcribing 8 pieces") as caught,
        gpu_errors("transcribing 8 pieces"),
    ):
        raise error
    copy = pickle.loads(pickle.dumps(caught.value))
    assert copy.detail == caught.value.detail
    assert "CPU replica" in copy.detail


def test_any_other_failure_is_a_processing_error_with_its_text() -> None:
    with (
        pytest.raises(ProcessingError, match=r"failed while transcribing 2 pieces: KeyError: 'heads'"),
        gpu_errors("transcribing 2 pieces"),
    ):
        raise KeyError("heads")


def test_errors_of_ours_pass_unchanged() -> None:
    original = AudioExtractionError("broken")
    for context in (gpu_errors, loading_errors):
        with pytest.raises(AudioExtractionError) as caught, context("anything"):
            raise original
        assert caught.value is original


def test_what_is_done_without_failure_is_left_alone() -> None:
    with gpu_errors("adding"):
        total = 1 + 1
    assert total == 2


def test_while_loading_other_failures_are_about_the_model() -> None:
    with (
        pytest.raises(ModelLoadingError, match=r"failed while loading it: OSError: no such file"),
        loading_errors("loading it"),
    ):
        raise OSError("no such file")
    with pytest.raises(GpuMemoryError), loading_errors("loading it"):
        raise NO_MEMORY[0]

"""Work that may need more memory than there is, and memory that nothing uses."""

from __future__ import annotations

import ctypes
import gc
import traceback
from collections.abc import Callable

import torch

__all__ = ["fits_memory", "is_out_of_memory", "return_free_memory"]

# Of the CPU's allocator, of MPS and of CUDA's libraries, which raise no kind of their own.
_TEXTS = ("can't allocate memory", "backend out of memory", "CUBLAS_STATUS_ALLOC_FAILED", "CUDNN_STATUS_ALLOC_FAILED")


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether an error of torch or Python says that memory ran out, on the host or on a device."""
    return isinstance(error, MemoryError | torch.OutOfMemoryError) or (
        isinstance(error, RuntimeError) and any(text in str(error) for text in _TEXTS)
    )


def fits_memory(work: Callable[[], None]) -> bool:
    """Do a piece of work; return whether memory sufficed. Where it did not, what the work had allocated is freed."""
    try:
        work()
    except BaseException as error:
        if not is_out_of_memory(error):
            raise
        # Its frames hold the tensors that filled the memory.
        traceback.clear_frames(error.__traceback__)
    else:
        return True
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    return False


def return_free_memory() -> None:
    """Give the heap's free pages back to the system, where the C library keeps them and can (glibc).

    Batches of many lengths leave holes in the heap, which later ones do not fit exactly.
    """
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)

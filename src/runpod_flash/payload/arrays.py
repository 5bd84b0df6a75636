"""Arrays between versions of NumPy: what rebuilds one is named by us, since NumPy 1 and 2 name it differently."""

from __future__ import annotations

import pickle
import sys
from typing import Any, Final

_NUMPY_2: Final = "numpy._core"


def reduce_array(array: Any) -> Any:
    """Like `__reduce_ex__` of an array, which NumPy rebuilds from a buffer by a function of its private parts."""
    reduced = array.__reduce_ex__(5)
    return (from_buffer, reduced[1]) if getattr(reduced[0], "__name__", "") == "_frombuffer" else NotImplemented


def from_buffer(buffer: Any, dtype: Any, shape: tuple[int, ...], order: Any) -> Any:
    """The array; NumPy is loaded, since `dtype` is one of its own."""
    return sys.modules["numpy"].frombuffer(buffer, dtype=dtype).reshape(shape, order=order)


def is_of_newer_numpy(error: ModuleNotFoundError) -> bool:
    """Whether something could not be read because NumPy 2 wrote it: an array without one buffer, a scalar."""
    return (error.name or "").startswith(_NUMPY_2) and "numpy" in sys.modules


class OlderNumpy(pickle.Unpickler):
    """Finds what NumPy 2 names where NumPy 1 has it."""

    def find_class(self, module: str, name: str) -> Any:
        """As pickle does it, but for modules that only NumPy 2 has."""
        try:
            return super().find_class(module, name)
        except ModuleNotFoundError as error:
            if not is_of_newer_numpy(error):
                raise
            return super().find_class(module.replace(_NUMPY_2, "numpy.core", 1), name)

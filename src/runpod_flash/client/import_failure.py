"""A module of the user's that raised while it was imported: which line of his did it, and what to do."""

from __future__ import annotations

import linecache
import os
import sys
from pathlib import Path
from typing import Final

from runpod_flash.errors import FlashError, UsageError


class ImportFailed(FlashError):
    """The user's module raised while it was imported."""

    code = "import_failed"


def import_failed(source: str, error: BaseException) -> FlashError:
    """What the user's own line did; the interpreter's way to it is left out. `source` is how he calls the module."""
    if isinstance(error, (SyntaxError, UnicodeDecodeError)) or "null bytes" in str(error):
        return _no_python(source, error)
    said = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
    fix = "mend that line, or put what is to run only as a program under: if __name__ == '__main__':"
    if isinstance(error, ModuleNotFoundError):
        fix = (
            "import it inside the remote function and declare it with dependencies=[…], or install it here as well: "
            f"{sys.executable} -m pip install {error.name}"
        )
    return ImportFailed(f"{source} cannot be imported: {said}", where=last_line(error), fix=fix)


def _no_python(source: str, error: BaseException) -> UsageError:
    where, said = None, str(error)
    if isinstance(error, SyntaxError):
        where = f"{error.filename}:{error.lineno}" if error.filename and error.lineno else None
        where = f"{where}\n{error.text.strip()[:200]}" if where and error.text else where
        said = error.msg
        if error.filename and os.path.basename(error.filename) != os.path.basename(source):
            source = f"{os.path.basename(error.filename)}, which {source} imports,"
    fix = "mend that line" if where and ".py" in source else "name a file of Python source"
    return UsageError(f"{source} cannot be read as Python: {said}", where=where, fix=fix)


def is_users(file: str) -> bool:
    """Whether code of this file is the user's own."""
    return not file.startswith(("<frozen", *_OURS_AND_STANDARD)) and "site-packages" not in file


def last_line(error: BaseException) -> str | None:
    """`file:line` of the last line that is the user's, and its text."""
    found, here = None, error.__traceback__
    while here is not None:
        file = here.tb_frame.f_code.co_filename
        if is_users(file):
            found = file, here.tb_lineno
        here = here.tb_next
    if found is None:
        return None
    line = linecache.getline(*found).strip()
    return f"{found[0]}:{found[1]}" + (f"\n{line}" if line else "")


_OURS_AND_STANDARD: Final = (
    str(Path(__file__).parents[1]) + os.sep,
    os.path.dirname(os.path.abspath(os.__file__)) + os.sep,
)

"""What docs/reference/launching.md shows runs as it stands there."""

from __future__ import annotations

import re
import sys
from pathlib import Path

from tests.acceptance.launching.programs import Programs

PAGE = Path(__file__).parents[3] / "docs/reference/launching.md"
BLOCKS = re.findall(r"^```(python|ipython)\n(.*?)^```", PAGE.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)


def test_the_programs_of_the_page_do_what_it_says(programs: Programs) -> None:
    script, tests, threads, processes = (text for kind, text in BLOCKS if kind == "python")
    programs.write({"script.py": script, "test_page.py": tests, "threads.py": threads, "processes.py": processes})
    assert programs.python("script.py") == "42\n8\n"
    assert programs.python("threads.py") == "[0, 2, 4, 6, 8]\n[0, 2, 4] [0, 2, 4]\n"
    assert programs.python("processes.py") == "[0, 1, 4, 9]\n"
    assert "1 passed" in programs.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:asyncio", "test_page.py"]
    )


def test_the_cell_of_the_page_uses_what_was_defined_last(programs: Programs) -> None:
    (cell,) = (text for kind, text in BLOCKS if kind == "ipython")
    programs.write({"cell.ipy": cell})
    settings = str(programs.folder / "settings")
    printed = programs.run([sys.executable, "-m", "IPython", "--quiet", "cell.ipy"], IPYTHONDIR=settings)
    assert printed.splitlines()[-1] == "2 101 102"

"""The process that draws one SVG, from its standard input to its standard output: see curate.image.drawings."""

from __future__ import annotations

import os
import resource
import sys
from collections.abc import Sequence

REFUSED = 2
"""The exit code of what is no drawing."""

TOO_LARGE = 3
"""That of a drawing for which the memory does not do."""


def draw(side_px: int, seconds: int, memory_bytes: int, fonts: Sequence[str]) -> int:
    """Draw within bounds of processor time and address space; the exit code."""
    import resvg_py

    resource.setrlimit(resource.RLIMIT_AS, (memory_bytes, memory_bytes))
    resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds + 1))
    folders = [font for font in fonts if os.path.isdir(font)]
    files = [font for font in fonts if font not in folders]
    text = sys.stdin.buffer.read().decode("utf-8", "replace")
    try:
        drawn = resvg_py.svg_to_bytes(
            svg_string=text, width=side_px, background="#ffffff", skip_system_fonts=True, font_files=files or None,
            font_dirs=folders or None,
        )  # fmt: skip
    except ValueError as err:
        sys.stderr.write(str(err))
        return REFUSED
    except MemoryError:
        return TOO_LARGE
    sys.stdout.buffer.write(bytes(drawn))
    return 0

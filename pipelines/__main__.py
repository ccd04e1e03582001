"""`python -m pipelines` and the console command `curate`."""

from __future__ import annotations

import os
import sys

from pipelines.supervise import supervise


def start() -> None:
    """Run the command line and exit with its code."""
    # Set before anything imports them: img2dataset's dependency would ask the network for its own newest version.
    os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")
    # Threads that wait for each other sleep: where cores are shared, spinning ones make a step tens of times slower.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    # A recipe names the user's own ops by module; last, so that nothing there hides a module of ours.
    sys.path.append(os.getcwd())
    from curate.process import speak_utf8

    speak_utf8()
    sys.exit(supervise(_main) if "--inline" in sys.argv[1:] else _main())


def _main() -> int:
    from pipelines.cli.main import main

    return main()


if __name__ == "__main__":
    start()

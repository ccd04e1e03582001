"""What the machine lacks stops a download in an error of its own; no row is failed for it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from hostile import Site, hang

SCRIPT = """
import errno, resource, sys
resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
from curate.download import DownloadSettings, Downloader
settings = DownloadSettings(allow_private=("127.0.0.0/8",), timeout_s=20, retries=0, per_host=200)
rows = []
try:
    with Downloader(settings) as downloader:
        rows += downloader.fetch((str(n), sys.argv[1]) for n in range(200))
except OSError as err:
    print(errno.errorcode[err.errno], [row.error for row in rows])
"""


def test_too_many_open_files_stop_the_download_and_fail_no_row(site: Site) -> None:
    site.pages["/hang"] = hang
    path = os.pathsep.join((str(Path(__file__).parents[2]), os.environ.get("PYTHONPATH", "")))
    command = [sys.executable, "-c", SCRIPT, site.url("/hang")]
    ended = subprocess.run(
        command, capture_output=True, text=True, env=os.environ | {"PYTHONPATH": path}, timeout=60, check=False
    )
    assert (ended.stdout, ended.returncode) == ("EMFILE []\n", 0), ended.stderr

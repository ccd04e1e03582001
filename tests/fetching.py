"""A downloader that is asked for a few URLs, for the tests."""

from __future__ import annotations

from typing import Any

from curate.download import Downloader, DownloadSettings, Fetched


def settings(**knobs: Any) -> DownloadSettings:
    usual = {"allow_private": ("127.0.0.1",), "timeout_s": 5, "retries": 0, "backoff_s": 0.01}
    return DownloadSettings.model_validate(usual | knobs)


def fetch(*urls: str | None, **knobs: Any) -> list[Fetched]:
    with Downloader(settings(**knobs)) as downloader:
        return list(downloader.fetch((f"{number:032x}", url) for number, url in enumerate(urls)))

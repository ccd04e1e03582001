"""Download URLs: an asynchronous, polite, bounded transport, or img2dataset; one `Fetched` a row."""

from curate.download.downloader import Downloader
from curate.download.fetched import Fetched, sha256, sniff
from curate.download.hosts import HostServer, share_hosts
from curate.download.settings import DownloadSettings, ResizeSettings

__all__ = [
    "DownloadSettings",
    "Downloader",
    "Fetched",
    "HostServer",
    "ResizeSettings",
    "sha256",
    "share_hosts",
    "sniff",
]

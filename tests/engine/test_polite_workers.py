"""Several workers on Ray are as polite to a server as one."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from conftest import Workplace
from hostile import Site, late


async def slow(site: Site, path: str, writer: asyncio.StreamWriter) -> None:
    await late(site, "/late?0.1", writer)


def urls(place: Workplace, site: Site, path: str, count: int) -> dict[str, Any]:
    rows = [{"url": site.url(f"{path}?{n}"), "text": f"a cat {n}"} for n in range(count)]
    (place.src / "urls.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return {"type": "urls", "path": str(place.src / "urls.jsonl")}


@pytest.mark.slow
def test_per_host_holds_over_all_workers_of_a_run(place: Workplace) -> None:
    site = Site()
    site.pages["/slow"] = slow
    download = {"allow_private": ["127.0.0.1"], "per_host": 3, "retries": 0}
    source = urls(place, site, "/slow", 80)
    path = place.recipe(source=source, download=download, shard_samples=5, limits={"failed": 1.0})
    found = place.command("run", path, "--workers", "2", "--json")
    assert found.steps["ingest"]["kept"] == 80
    assert site.most_at_once == 3
    site.close()


@pytest.mark.robust
def test_per_host_holds_over_all_workers_that_fetch_images_of_pages(place: Workplace) -> None:
    site = Site()
    site.pages["/slow"] = slow
    for page in range(16):
        images = "".join(f'<p>word {n}</p><img src="{site.url(f"/slow?{page}-{n}")}">' for n in range(5))
        (place.src / f"{page}.html").write_text(f"<html><body><article>{images}</article></body></html>")
    path = place.recipe(
        kind="interleaved",
        source={"type": "html", "path": str(place.src)},
        download={"allow_private": ["127.0.0.1"], "per_host": 3, "retries": 0},
        steps=[{"op": "html_document"}, {"op": "fetch_images"}],
        shard_samples=2,
    )
    found = place.command("run", path, "--workers", "2", "--json")
    assert found.steps["fetch_images"]["kept"] == 16
    assert (site.most_at_once, len(site.requests)) == (3, 80)
    site.close()

"""Names and texts in any script come through in any locale: what cannot be printed is escaped."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from conftest import Workplace

ASCII = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}


@pytest.mark.slow
@pytest.mark.parametrize(
    "env", [ASCII, {"PYTHONIOENCODING": "ascii"}, {**ASCII, "PYTHONIOENCODING": "ascii"}], ids=["locale", "io", "both"]
)
def test_every_script_comes_through_in_an_ascii_locale(place: Workplace, env: dict[str, str]) -> None:
    lines = [json.dumps({"text": f"tëxt {n} 日本"}, ensure_ascii=False) for n in range(4)]
    (place.root / "é.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    place.out = place.root / "ö"
    source = {"type": "text", "path": str(place.root / "é.jsonl")}
    recipe = place.recipe(name="naïve", license="ç", kind="text", source=source, steps=[{"op": "text_basic"}])
    assert place.command("run", recipe, "--inline", env=env).code == 0
    told = place.command("explain", "", "--out", place.out, "--json", env=env)
    assert {row["text"] for row in told.json} == {f"tëxt {n} 日本" for n in range(4)}
    assert "outcome" in place.command("explain", "", "--out", place.out, env=env).stdout
    manifest = place.root / "ü.json"
    mixed = place.command("mix", place.dataset, "-o", manifest, env=env)
    assert mixed.code == 0 and "na" in mixed.stdout
    assert json.loads(manifest.read_text(encoding="utf-8"))["datasets"][0]["name"] == "naïve"
    missing = place.command("run", Path("nö.yaml"), env=env)
    assert missing.code == 2 and "no such file" in missing.stderr and "Traceback" not in missing.stderr

"""Prove a recipe: train one model on its raw pool and on what it keeps, and measure both on unseen pictures.

    python bench/proof.py --home work/proof            (make proof)
    python bench/proof.py --home work/mine --recipe mine.yaml --held-out work/unseen/dataset

DataComp's test (Gadre et al. 2023): the model, its steps and the samples that it sees are the same, the data alone
differ. Arms: `raw` (all that came, no rule), `curated` (the recipe), `as few` (of the raw pool a random subset as small
as the curated one), `only RULE` and `without RULE` for each step that drops. Everything goes the real road: the recipe
is run, its dataset mixed, and `train` takes its steps with the contrastive loss (`proof.yaml`). Pictures are decoded
once: each arm's dataset is laid down again with its pictures fitted to SIDE_PX as the trainer's own reading does it.

Held out: stamps and emoji, drawn by others (`held_out.py`), or a published dataset of one's own. Measured: recall at k
both ways over distinct captions, and ROC AUC of true captions over swapped ones.

Each run that is done is a line of HOME/runs.jsonl, known by a digest of all that decides it, and is not done again.
Then comes a table: mean and standard deviation over seeds, the difference to raw with its interval (Welch), and a
verdict, which is "not told apart" unless the interval leaves zero out and the difference exceeds both deviations. The
intervals of an arm hold all together with 95 %: each has its share of the error (Bonferroni).
"""

from __future__ import annotations

import argparse
import io
import json
import shutil
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import numpy as np
from held_out import SETS, leaks, signatures, write_pairs
from PIL import Image
from scipy import stats

from curate import mix
from curate.commit import commit_text
from curate.engine.run import run
from curate.image.files import ImageError, decode
from curate.mix.content import own_text
from curate.mix.spec import Entry
from curate.recipe.model import Publish, Recipe, Step
from curate.recipe.resolve import resolve
from curate.settings import load
from curate.shards import DatasetInfo, ShardWriter, load_dataset, save_dataset
from curate.stream.images import image_part
from curate.stream.resize import fast
from curate.stream.stream import DatasetReader
from pipelines.materials import openclipart
from train import loop
from train.config import Config, digest, read, trained_settings
from train.evaluation.dual_encoders import evaluate
from train.ranks import join_ranks

Sample = tuple[str, dict[str, bytes]]
OURS = Path(__file__).parents[1] / "recipes"
RAW, CURATED, AS_FEW = "raw", "curated", "as few"
SIDE_PX = 64


@dataclass(frozen=True)
class Proof:
    """A proof: its folder, the recipe that is asked, what is trained, and what it is measured on."""

    home: Path
    recipe: Recipe
    config: Config
    held_out: Mapping[str, Path]

    @property
    def runs(self) -> Path:
        return self.home / "runs.jsonl"


def arms_of(recipe: Recipe) -> dict[str, tuple[Step, ...]]:
    """The steps of each arm that a recipe of its own makes, the most telling first."""
    deciding = [step for step in recipe.steps if step.keep]
    alone = {f"only {name_of(step)}": (step,) for step in deciding}
    absent = {f"without {name_of(step)}": tuple(s for s in recipe.steps if s is not step) for step in deciding}
    return {RAW: (), CURATED: recipe.steps, **alone, **absent}


def name_of(step: Step) -> str:
    return step.name or step.op


def arm_dataset(proof: Proof, arm: str) -> Path:
    """The folder of an arm's small pictures; curated, and of the raw arm decoded, if it is not there yet."""
    folder = proof.home / "arms" / arm.replace(" ", "-")
    if arm == AS_FEW:
        if not made(folder):
            rows = load_dataset(arm_dataset(proof, CURATED)).samples
            lay_down(folder, islice(samples(arm_dataset(proof, RAW)), rows), arm)
        return folder
    steps = arms_of(proof.recipe)[arm]
    recipe = proof.recipe.model_copy(update={"steps": steps, "publish": Publish()})
    wanted = digest(recipe.model_dump(mode="json"))
    if not made(folder) or load_dataset(folder).recipe != wanted:
        raw = None if arm == RAW else arm_dataset(proof, RAW)
        print(f"curating: {arm}", file=sys.stderr, flush=True)
        dataset = run(resolve(recipe), 0).folder
        shutil.rmtree(folder, ignore_errors=True)
        lay_down(folder, small(dataset) if raw is None else taken(dataset, raw), wanted)
    return folder


def made(folder: Path) -> bool:
    return (folder / "dataset.json").exists()


def small(dataset: Path) -> Iterator[Sample]:
    """A dataset's pairs, each picture as a PNG of SIDE_PX a side, as the trainer cuts it.

    What the trainer cannot read is left out: it would put another in its place.
    """
    for uid, parts in samples(dataset):
        try:
            pixels_CHW = fast(image_part(parts), SIDE_PX)
        except ImageError:
            continue
        Image.fromarray(np.ascontiguousarray(pixels_CHW.permute(1, 2, 0).numpy())).save(body := io.BytesIO(), "PNG")
        yield uid, {"png": body.getvalue(), "txt": own_text(parts).encode()}


def taken(dataset: Path, raw: Path) -> Iterator[Sample]:
    """The raw arm's pairs of the samples that a dataset holds, in its order."""
    small_parts = dict(samples(raw))
    return ((uid, small_parts[uid]) for uid, _ in samples(dataset) if uid in small_parts)


def lay_down(folder: Path, pairs: Iterable[Sample], recipe: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    with ShardWriter(folder / "00000.tar") as writer:
        for uid, parts in pairs:
            writer.add(uid, parts)
    shard = writer.info
    size = {"samples": shard.samples, "bytes": shard.bytes}
    save_dataset(DatasetInfo(name=folder.name, kind="caption", recipe=recipe, shards=(shard,), **size), folder)


def samples(dataset: Path) -> Iterator[Sample]:
    reader = DatasetReader(dataset.name, dataset)
    try:
        for row in range(reader.rows):
            yield reader.read(row)
    finally:
        reader.close()


def lay_down_held_out(proof: Proof, names: Sequence[str]) -> None:
    """Write our held-out sets without what the raw pool shows; what was left out is said."""
    missing = [name for name in names if not made(proof.home / "held-out" / name)]
    if not missing:
        return
    shown = proof.home / "signatures.parquet"
    if not shown.exists():
        recipe = proof.recipe.model_copy(update={"steps": (), "publish": Publish()})
        signatures(shown, pictures(run(resolve(recipe), 0).folder))
    for name in missing:
        pairs = list(SETS[name]())
        leaked = leaks([shown], pairs)
        write_pairs(proof.home / "held-out" / name, (pair for pair in pairs if pair.uid not in leaked))
        print(f"held out: {name}: {len(pairs)} pairs, {len(leaked)} leaks left out", file=sys.stderr, flush=True)


def pictures(dataset: Path) -> Iterator[tuple[str, Image.Image]]:
    for uid, parts in samples(dataset):
        if (image := decode(image_part(parts)).image) is not None:
            yield uid, image


def train_once(proof: Proof, arm: str, seed: int) -> dict[str, Any]:
    """Train on an arm with a seed and measure the result; found where it was done before."""
    dataset = arm_dataset(proof, arm)
    config = proof.config.model_copy(update={"seed": seed})
    evaluated = {name: content(path) for name, path in proof.held_out.items()}
    key = digest({"config": trained_settings(config), "data": content(dataset), "held out": evaluated})
    if key in (done := {line["key"]: line for line in finished(proof.runs)}):
        return done[key]
    folder = proof.home / "runs" / key[:16]
    mixture = folder / "mixture.json"
    mix.compose(mix.MixtureSpec(seed=seed, sources=(Entry(path=str(dataset.resolve())),)), folder, mixture)
    with join_ranks("cpu") as ranks:
        outcome = loop.run(config, mixture, folder, ranks)
    found = {name: evaluate(outcome.clip, path).plain() for name, path in proof.held_out.items()}
    line = {"key": key, "arm": arm, "seed": seed, "rows": load_dataset(dataset).samples,
            "steps": config.optim.steps, "batch": config.data.batch_size, "loss": outcome.summary["loss"],
            "held_out": found}  # fmt: skip
    commit_text(proof.runs, "".join(json.dumps(one) + "\n" for one in [*finished(proof.runs), line]))
    shutil.rmtree(folder)
    return line


def content(dataset: Path) -> list[str]:
    return [shard.sha256 for shard in load_dataset(dataset).shards]


def finished(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


Measure = Callable[[Mapping[str, Any]], float]
MEASURES: Mapping[str, Measure] = {
    "AUC": lambda found: found["auc"],
    "image to text, recall@10": lambda found: found["recall"]["image_to_text@10"],
    "text to image, recall@10": lambda found: found["recall"]["text_to_image@10"],
}


def report(lines: Sequence[Mapping[str, Any]]) -> str:
    """The tables, as Markdown: one a held-out set and measure, a row an arm."""
    by_arm: dict[str, list[Mapping[str, Any]]] = {}
    for line in lines:
        by_arm.setdefault(line["arm"], []).append(line)
    confidence = 1 - 0.05 / (len(MEASURES) * len(lines[0]["held_out"]))
    out = []
    for name in lines[0]["held_out"]:
        for measure, take in MEASURES.items():
            values = {arm: [take(line["held_out"][name]) for line in of] for arm, of in by_arm.items()}
            out += [f"\n{name}: {measure}\n", "| arm | rows | seeds | mean | sd | against raw | verdict |",
                    "|---|---|---|---|---|---|---|"]  # fmt: skip
            for arm, found in values.items():
                against = compared(found, values.get(RAW, []), confidence)
                sd = f"{stdev(found):.4f}" if len(found) > 1 else "-"
                rows = f"{by_arm[arm][0]['rows']:,}"
                out.append(f"| {arm} | {rows} | {len(found)} | {mean(found):.4f} | {sd} | {against} |")
    return "\n".join(out)


def compared(found: Sequence[float], raw: Sequence[float], confidence: float) -> str:
    """Difference of means, its interval and the verdict, as two cells."""
    if found == raw or min(len(found), len(raw)) < 2:
        return " | "
    apart = mean(found) - mean(raw)
    interval = stats.ttest_ind(found, raw, equal_var=False).confidence_interval(confidence)
    told = interval.low > 0 or interval.high < 0
    beyond = abs(apart) > max(stdev(found), stdev(raw))
    verdict = "not told apart" if not (told and beyond) else "better" if apart > 0 else "worse"
    return f"{apart:+.4f} [{interval.low:+.4f}, {interval.high:+.4f}] | {verdict}"


def chosen_recipe(given: argparse.Namespace) -> Recipe:
    """The user's recipe; ours on Openclipart otherwise, its paths below the home."""
    if given.recipe:
        return load(given.recipe, Recipe, ())
    folder = given.home / "openclipart"
    made = openclipart.prepare(folder)
    paths = {"out": folder, "source.path": made.images, "source.captions": made.captions}
    return load(OURS / "openclipart.yaml", Recipe, [f"{key}={path}" for key, path in paths.items()])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--home", type=Path, default=Path("work/proof"))
    parser.add_argument("--recipe", type=Path, help="a recipe of pairs (default: recipes/openclipart.yaml)")
    parser.add_argument("--held-out", type=Path, nargs="*", help="published datasets (default: stamps and emoji)")
    parser.add_argument("--set", nargs="*", default=[], help="key=value over the training's configuration")
    parser.add_argument("--seeds", type=int, nargs="*", default=range(20))
    parser.add_argument("--arms", nargs="*", help="which arms (default: raw, curated, as few)")
    parser.add_argument("--rules", action="store_true", help="each rule alone and each left out, too")
    given = parser.parse_args()
    recipe = chosen_recipe(given)
    config = read(Path(__file__).with_suffix(".yaml"), given.set)
    ours = {name: given.home / "held-out" / name for name in SETS}
    held_out = {path.parent.name: path for path in given.held_out} if given.held_out else ours
    proof = Proof(given.home, recipe, config, held_out)
    lay_down_held_out(proof, [name for name in SETS if held_out.get(name) == ours[name]])
    arms = given.arms or [RAW, CURATED, AS_FEW, *([a for a in arms_of(recipe) if " " in a] if given.rules else [])]
    lines = []
    for seed in given.seeds:
        for arm in arms:
            lines.append(line := train_once(proof, arm, seed))
            print(json.dumps({k: v for k, v in line.items() if k != "key"}), flush=True)
    print(report(lines))


if __name__ == "__main__":
    main()

"""Load what is evaluated: exported files, `transformers`' BLIP, the newest checkpoint of a run."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

import torch

from curate.models.blip import is_blip
from curate.models.captioners import captioner_identity, load_captioner
from curate.models.devices import Device
from curate.models.dual_encoder import metadata_of
from curate.models.files import ModelError, file_digest
from curate.sample import fingerprint
from curate.settings import validate
from train.checkpoint import STATE, newest_checkpoint, read_weights, weights_digest
from train.config import Config
from train.evaluation.answerer import Answerer
from train.export import export
from train.models.dual_encoder import DualEncoder, build, load_export
from train.objectives.choice import objective_of

Model = Answerer | DualEncoder
"""What answers, or what tells pictures and texts that belong together."""


def model_digest(model: Path) -> str:
    """Digest of a model's weights: of a run, those of its newest checkpoint. Raises ModelError."""
    if is_run(model):
        return weights_digest(_newest(model))
    if model.suffix == ".safetensors" and model.is_file():
        return file_digest(model)
    return fingerprint(captioner_identity(str(model), ""))


def load_model(model: Path, device: Device) -> Model:
    """Load a model onto its device. Raises ModelError for what is none, or answers nothing.

    `model`: a `.safetensors` that `curate train --export` wrote; the folder of a run (`--out`); a folder of
    `transformers` with BLIP.
    """
    if is_run(model):
        with tempfile.TemporaryDirectory() as folder:
            return load_model(export_newest(model, Path(folder) / "model.safetensors"), device)
    if model.suffix == ".safetensors":
        said = metadata_of(model)
        if "matcher" in said:
            raise ModelError(f"{model} holds a matcher, which answers nothing; the op `match_score` asks it")
        if "captioner" not in said:
            clip = load_export(model)
            clip.net.to(device.torch()).eval()
            return clip
    elif not is_blip(str(model)):
        raise ModelError(
            f"{model}: no model; give a .safetensors that `curate train --export` wrote, the folder of a run"
            " (`curate train --out`), or a folder of transformers with BLIP"
        )
    return Answerer(load_captioner(str(model), "", "float32" if device.kind == "cpu" else "auto", device))


def is_run(folder: Path) -> bool:
    """Whether a folder is one that `curate train` wrote to."""
    return (folder / "checkpoints").is_dir()


def export_newest(run: Path, path: Path) -> Path:
    """Write what `--export` would have written of a run's newest checkpoint. Raises ModelError, SettingsError."""
    newest = _newest(run)
    config = validate(json.loads((newest / STATE).read_text(encoding="utf-8"))["trained"], Config, str(newest))
    towers, language = config.model.towers, getattr(config.objective, "language", None)
    named = (config.model.clip, *(tower.model for tower in towers.values()), getattr(language, "model", None))
    if any(str(file).startswith("sha256:") for file in named):
        raise ModelError(
            f"{run}: began from a model's files, of which a checkpoint keeps the digest alone; run the same `curate"
            " train` again with --export FILE, and name that file"
        )
    unread = {name: tower.model_copy(update={"weights": None}) for name, tower in towers.items()}
    model = config.model.model_copy(update={"weights": None, "towers": unread})
    clip = build(model)
    objective = objective_of(config.model_copy(update={"model": model}), clip)
    try:
        objective.load_state_dict(read_weights(newest), strict=True)
    except RuntimeError as err:
        raise ModelError(
            f"{newest}: its weights are not those of the network that it describes; another version of the trainer"
            f" wrote them: export the model with that version ({str(err).splitlines()[1].strip()[:120]})"
        ) from None
    export(clip, objective, config, path)
    return path


def torch_device(wanted: str) -> Device:
    """The device of `auto`, `cpu` or `cuda`."""
    return Device("cuda" if wanted == "cuda" or (wanted == "auto" and torch.cuda.is_available()) else "cpu")


def _newest(run: Path) -> Path:
    found = newest_checkpoint(run / "checkpoints")
    if found is None:
        raise ModelError(f"{run}: a run without a whole checkpoint yet; wait for its first (run.checkpoint_every)")
    return found

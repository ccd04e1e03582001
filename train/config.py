"""Configuration of a run: six short sections of one YAML file.

`data`, `model`, `objective`, `start`, `optim` and `seed` say what is trained: change one and it is another run, which a
checkpoint of the old one refuses. `run` says how (device, threads, how often to log and save) and may change freely.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, field_validator, model_validator

from curate.commit import file_sha256
from curate.models.connectors.mlp import MlpConfig
from curate.models.connectors.qformer import QFormerConfig
from curate.models.connectors.table import AnyConnector
from curate.models.fusion import AnyFusion, TokensConfig
from curate.models.languages.decoder import DecoderConfig, Transformer
from curate.models.languages.encoder_decoder import EncoderDecoderConfig
from curate.models.languages.pretrained import PretrainedConfig
from curate.models.languages.table import AnyDecoder, AnyLanguage
from curate.models.towers.tower import TowerConfig
from curate.sample import Kind
from curate.settings import PathText, Settings, SettingsError, load, seen_from_here, unknown_message
from curate.stream.augment import Augment, Share
from curate.stream.forms import FormConfig
from train.optim import Count, Optim
from train.start import Start


class Data(Settings):
    """Settings of a step's data."""

    batch_size: Count = 256
    """Samples an optimizer step (packs, of the multimodal objective), over all ranks and accumulated parts."""
    whole: tuple[Kind, ...] = ("ocr",)
    """Kinds of samples whose images are shown whole, the long side fitted and white beside; of the others the centre is
    cut out."""
    max_unreadable: Share = 0.01
    """Share of the samples seen that may be unreadable (and replaced) before the run stops and names the shard."""
    augment: Augment = Augment()


class Model(Settings):
    """The dual encoder (of the caption and multimodal objectives, its image tower)."""

    clip: PathText | dict[str, Any] = "ViT-B-32"
    """A model that open_clip names, a JSON file, the configuration itself (embed_dim, vision_cfg, text_cfg), or a
    .safetensors that `--export` wrote, which brings its tokenizer and weights along."""
    weights: PathText | None = None
    """Where to start from: a .safetensors file, or a `pretrained` tag of open_clip. Nothing: random weights."""
    tokenizer: str = "simple"
    """`simple` (CLIP's byte pairs), `simple:N` (cut to a vocabulary of N), or `words:FILE` (a JSON list of words)."""

    towers: dict[Annotated[str, Field(pattern=r"^[a-z]\w*$")], TowerConfig] = Field(default_factory=dict)
    """Vision towers of the caption and multimodal objectives by name, in the order that the connector takes them in: of
    the first, a stage's resolution sets the size. Nothing: the dual encoder's own."""

    @model_validator(mode="after")
    def _whole_export(self) -> Model:
        if self.towers and self.model_fields_set & {"clip", "weights"}:
            raise ValueError("towers stand in the dual encoder's place; leave clip and weights out")
        if self.exported and self.model_fields_set & {"weights", "tokenizer"}:
            raise ValueError("clip names an exported file, which has its own weights and tokenizer; leave those out")
        return self

    @property
    def exported(self) -> bool:
        """Whether `clip` is a file that holds everything."""
        return isinstance(self.clip, str) and self.clip.endswith(".safetensors")

    @field_validator("tokenizer")
    @classmethod
    def _known_tokenizer(cls, value: str) -> str:
        name, _, rest = value.partition(":")
        if name not in ("simple", "words") or (name == "words" and not rest):
            raise ValueError(unknown_message("tokenizer", value, ("simple", "simple:N", "words:FILE")))
        return value


class Contrastive(Settings):
    """The CLIP loss over all pairs of a batch (Radford et al. 2021). With accumulation, over each part's pairs."""

    type: Literal["contrastive"]
    max_logit_scale: Annotated[float, Field(gt=0.0)] = 100.0


class MatchingConfig(Settings):
    """BLIP's filter: the contrastive loss, and a two-way head that tells pairs from hard ones of the batch.

    Li et al. 2201.12086. Every part of the dual encoder is trained. With accumulation, over each part's pairs.
    """

    type: Literal["matching"]
    connector: AnyConnector = MlpConfig()
    encoder: Transformer = Transformer()
    max_logit_scale: Annotated[float, Field(gt=0.0)] = 100.0


class BootstrapConfig(Settings):
    """BLIP-2's stage one (Li et al. 2301.12597): ITC, ITM and ITG of a Q-Former on a frozen image tower.

    A later stage starts from its run by the connector's name. With accumulation, over each part's pairs.
    """

    type: Literal["qformer"]
    connector: QFormerConfig = QFormerConfig()
    text_length: Annotated[int, Field(ge=4)] = 32
    """Tokens kept of a text, with its begin and end."""
    features: Count = 256
    """Width of what ITC compares."""
    temperature: Annotated[float, Field(gt=0.0)] = 0.07
    """What ITC's similarities are divided by at the start; it is learnt."""
    smoothing: Share = 0.1
    """Share of the truth that is spread over all classes, in ITC and ITG."""
    bert: PathText | None = None
    """A folder of transformers' BERT, or its name on the hub, whose weights the Q-Former begins with (the heads are
    drawn). Nothing: random weights."""


class Caption(Settings):
    """Image tower, connector, language model, a sample a row; the loss is on texts only (LLaVA, Liu et al. 2023)."""

    type: Literal["caption"]
    train_tower: bool = False
    connector: AnyConnector = MlpConfig()
    fusion: AnyFusion = TokensConfig()
    text_length: Annotated[int, Field(ge=4)] = 64
    """Tokens kept of a caption, with its begin and end, and the tags and words that the form puts in."""
    form: FormConfig = FormConfig()
    language: AnyLanguage = DecoderConfig()

    @model_validator(mode="after")
    def _reads_pictures(self) -> Caption:
        if isinstance(self.language, EncoderDecoderConfig) and not isinstance(self.fusion, TokensConfig):
            raise ValueError("an encoder_decoder takes pictures among its tokens: leave fusion out")
        return self


class GapConfig(Settings):
    """Mean embedding of pictures less that of texts, which is added to texts (CLOSE, Gu et al. 2211.09778).

    `pairs`: a published dataset, the first `samples` pairs of which tell it.
    """

    pairs: PathText
    samples: Annotated[int, Field(ge=2)] = 1000


class TextOnly(Settings):
    """Connector and language model on texts alone, CLIP's text tower in the place of its image tower (TOMGPT).

    Which of a sample's texts is embedded, asked and learnt: see `train.objectives.text_only`. Export it, and it sees.
    """

    type: Literal["text_only"]
    fusion: ClassVar[TokensConfig] = TokensConfig()
    train_tower: ClassVar[bool] = False
    train_language: bool = False
    connector: AnyConnector = MlpConfig()
    text_length: Annotated[int, Field(ge=4)] = 64
    """Tokens kept of a question and its answer, with begin and end."""
    form: FormConfig = FormConfig()
    language: AnyDecoder = DecoderConfig()
    noise: Annotated[float, Field(ge=0.0)] = 0.0
    """Standard deviation of what is added to each number of a unit embedding in training (CapDec, Nukrai et al.
    2211.00575, has 0.126). TOMGPT says nothing of any."""
    gap: GapConfig | None = None


class PackConfig(Settings):
    """Limits of a packed sequence. The defaults are MM1's (2403.09611)."""

    tokens: Annotated[int, Field(ge=4)] = 4096
    """Tokens, those of images included. A stage's `sequence` goes before."""
    images: Annotated[int, Field(ge=0)] = 16
    window: Count = 4096
    """Positions of the mixture that are packed together: more waste less, and look further ahead."""


class DocumentConfig(Settings):
    """Cut of a sample that is longer than it may be; by default as much as a pack holds, from its beginning.

    Flamingo's choice (2204.14198) is {text_tokens: 256, images: 5, start: random, next_image: 0.5}. A conversation is
    cut at its end alone.
    """

    text_tokens: Count | None = None
    """Of the sample's own texts, tags aside."""
    images: Annotated[int, Field(ge=0)] | None = None
    start: Literal["first", "random"] = "first"
    """`random`: from anywhere, by (seed, uid, epoch)."""
    next_image: Share = 0.0
    """Probability, for a document and epoch, that each image moves in front of the text before it: that text is then
    predicted from the image that follows it."""


class Multimodal(Settings):
    """Image tower, connector, language model on packs of samples of every kind; the loss is on texts only (MM1)."""

    type: Literal["multimodal"]
    train_tower: bool = False
    connector: AnyConnector = MlpConfig()
    fusion: AnyFusion = TokensConfig()
    pack: PackConfig = PackConfig()
    document: DocumentConfig = DocumentConfig()
    form: FormConfig = FormConfig()
    language: AnyDecoder = DecoderConfig()


Objective = Annotated[
    Contrastive | MatchingConfig | BootstrapConfig | Caption | TextOnly | Multimodal, Field(discriminator="type")
]


class RunConfig(Settings):
    """Settings of carrying out a run; nothing here is part of what is trained."""

    device: Literal["auto", "cpu", "cuda"] = "auto"
    cpu_threads: Count = 2
    """Threads of torch on a CPU. Pinned, because another number gives other last bits."""
    decode_threads: Count = 2
    prefetch: Count = 3
    """Batches decoded ahead."""
    cache: PathText | None = None
    """Folder on this host where tars that lie elsewhere are kept whole; without one they are read in ranges."""
    cache_gb: Annotated[float, Field(gt=0.0)] = 64.0
    """What that folder may take, in 10^9 bytes, shared by all processes of the host."""
    parallel: Literal["ddp", "fsdp"] = "ddp"
    """How several ranks share the work: each with all weights, or with its shard of them, of moments and gradients."""
    recompute: bool = False
    """Whether a block's activations are computed again in the backward pass rather than kept: less memory, a third more
    work."""
    compile: bool = False
    """Whether blocks are compiled (`torch.compile`): faster after some minutes; other last bits."""
    log_every: Count = 10
    checkpoint_every: Count = 500
    keep: Count = 2
    """Checkpoints kept."""
    tensorboard: bool = True


class Config(Settings):
    """A training run."""

    data: Data = Data()
    model: Model = Model()
    objective: Objective = Contrastive(type="contrastive")
    start: Start | None = None
    optim: Optim = Optim()
    run: RunConfig = RunConfig()
    seed: Annotated[int, Field(ge=0, lt=2**63)] = 0

    @model_validator(mode="after")
    def _whole_parts(self) -> Config:
        if self.data.batch_size % self.optim.accumulate:
            raise ValueError(
                f"data.batch_size {self.data.batch_size} must be a multiple of optim.accumulate {self.optim.accumulate}"
            )
        if self.model.towers and not isinstance(self.objective, BootstrapConfig | Caption | Multimodal):
            raise ValueError(f"the {self.objective.type} objective trains the dual encoder: leave model.towers out")
        if self.data.augment != Augment() and any(tower.fit == "native" for tower in self.model.towers.values()):
            raise ValueError("data.augment makes squares, and a tower has fit: native: leave one of them out")
        return self


def read(path: Path, overrides: Sequence[str] = ()) -> Config:
    """Read the run that `path` describes, and the files it names. Raises SettingsError."""
    config = load(path, Config, overrides)
    model = config.model
    found = _read_network(path, "model.clip", "clip", model)
    towers = {
        n: t.model_copy(update=_read_network(path, f"model.towers.{n}", "model", t)) for n, t in model.towers.items()
    }
    if model.tokenizer.startswith("words:") and not model.tokenizer.startswith("words:["):
        file = Path(model.tokenizer.removeprefix("words:")).expanduser()
        words = _read_json(file)
        if not isinstance(words, list) or not all(isinstance(word, str) for word in words):
            raise SettingsError(f"{file}: expected a JSON list of words")
        found["tokenizer"] = "words:" + json.dumps(words, ensure_ascii=False, separators=(",", ":"))
    return config.model_copy(update={"model": model.model_copy(update=found | {"towers": towers})})


def trained_settings(config: Config) -> dict[str, Any]:
    """The settings that decide what is trained, as plain data: every section but `run`, files by their digest."""
    plain = config.model_dump(mode="json", exclude={"run"})
    for network in (plain["model"], *plain["model"]["towers"].values()):
        for key in network.keys() & {"clip", "model", "weights"}:
            if isinstance(network[key], str) and network[key].endswith(".safetensors"):
                network[key] = "sha256:" + file_sha256(Path(network[key]))
    if isinstance(language := getattr(config.objective, "language", None), PretrainedConfig):
        plain["objective"]["language"]["model"] = language.digest()
    if config.start is not None:
        plain["start"]["run"] = "sha256:" + config.start.digest()
    return plain


def _read_network(path: Path, where: str, key: str, settings: Model | TowerConfig) -> dict[str, Any]:
    """What the JSON file holds that `settings` name under `key`. Raises SettingsError, also where weights are not."""
    for name in (key, "weights"):
        value = getattr(settings, name)
        if isinstance(value, str) and value.endswith(".safetensors") and not Path(value).is_file():
            at = where if name == key else f"{where.removesuffix('.clip')}.weights"
            raise SettingsError(f"{path}: {at}: no such file: {value}{seen_from_here(value)}")
    network = getattr(settings, key)
    return {key: _read_json(Path(network))} if isinstance(network, str) and network.endswith(".json") else {}


def digest(plain: dict[str, Any]) -> str:
    """SHA-256 of plain data in canonical JSON."""
    text = json.dumps(plain, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()


def _read_json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise SettingsError(f"{path}: no such file{seen_from_here(path)}") from None
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as err:
        raise SettingsError(f"{path}: not readable as JSON: {err}") from None

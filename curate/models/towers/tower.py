"""A vision tower: from pictures of 8 bits to vectors, frozen or trained, as its settings say.

Shapes: M views, C channels, H x W pixels, h x w raster, P vectors of a view, D width.
"""

from __future__ import annotations

import json
from itertools import chain
from pathlib import Path
from typing import Annotated, Any, Literal

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional as F

from curate.image.views import Fit, Split, Views
from curate.models.dual_encoder import ClipConfig, exported_config, named_config
from curate.models.features import Features, Pictures, TowerShape
from curate.models.files import ModelError
from curate.models.image_tower import at_resolution
from curate.models.towers.backbones import Backbone, load_backbone, of_dual_encoder
from curate.models.towers.native import native_features, without_padding
from curate.models.towers.rasters import cut_raster, joined, there_in_square
from curate.settings import PathText, Settings

Count = Annotated[int, Field(ge=1)]
Share = Annotated[float, Field(ge=0.0, le=1.0)]
Part = Annotated[float, Field(gt=0.0)]


class SplitConfig(Settings):
    """A picture as `tiles` x `tiles` views and its whole (`curate.image.views.Split`)."""

    tiles: Annotated[int, Field(ge=2)] = 2
    whole: Literal["first", "last"] = "last"
    of: Literal["picture", "features"] = "picture"


class TowerConfig(Settings):
    """Settings of a vision tower, and of what it is shown of a picture."""

    model: PathText | dict[str, Any]
    """A model that open_clip names, a JSON file or the configuration itself (embed_dim, vision_cfg, text_cfg), a
    .safetensors that `--export` wrote, or `timm:NAME`."""
    weights: PathText | None = None
    """A .safetensors file, a `pretrained` tag of open_clip, or of timm `pretrained`. Nothing: random weights."""
    size_px: Count | None = None
    """The side of its pictures, of native ones the longest; by default what the network was made for. A vision
    transformer's positions are interpolated."""
    mean: tuple[Share, Share, Share] | None = None
    std: tuple[Part, Part, Part] | None = None
    """Colours from 0 to 1 have the mean taken off and are divided by this; by default as the network was trained."""
    layer: Literal[-1, -2] = -1
    """Whose vectors are taken: the last block's, or those of the one before it (LLaVA, BLIP-2)."""
    final_norm: bool = False
    """Whether the network's own last norm is applied (SigLIP in Idefics2, DINOv2)."""
    stages: bool = False
    """All stages of a convolutional network, resized to the first's raster and joined (ConvNeXt in Mini-Gemini and
    Cambrian-1: 2,880 and 5,760 channels)."""
    class_vector: bool = False
    """Whether the class vector is kept, before the raster (BLIP-2)."""
    side: Count | None = None
    """The raster is resized to side x side (bilinear, corners not aligned; Cambrian-1: 27 to 24)."""
    embedding: bool = False
    """The picture's embedding in the space that it shares with texts, of length one, in place of all vectors."""
    norm: bool = False
    """A LayerNorm over the vectors, which trains also where the tower is frozen (BLIP-2's `ln_vision`)."""
    fit: Fit | None = None
    """See `curate.image.views.Views`. Nothing: square, and whole for the kinds in `data.whole`."""
    split: SplitConfig | None = None
    frames: Count | None = None
    """Stills of a film at most, each a view."""
    shortest_px: Count = 378
    """Of native pictures, the least that a side has."""

    @model_validator(mode="after")
    def _whole_views(self) -> TowerConfig:
        native, cut = self.fit == "native", self.split is not None and self.split.of == "features"
        if native and (self.side or self.stages or self.class_vector or cut or self.layer != -1):
            raise ValueError(
                "fit: native has rasters of many sizes, of the last layer: leave out side, stages, class_vector, layer"
                " and split of features"
            )
        if self.embedding and (native or cut or self.side or self.stages or self.class_vector or self.layer != -1):
            raise ValueError(
                "embedding is one vector of a picture: leave out fit: native, side, stages, class_vector, layer and a"
                " split of features"
            )
        if cut and (self.class_vector or self.frames or self.fit == "pad"):
            raise ValueError("split of features has no class_vector, no frames and no fit: pad: leave those out")
        return self

    @property
    def views(self) -> Views:
        """Views that the tower is shown of a picture."""
        split = None if self.split is None else Split(**self.split.model_dump())
        return Views(self.fit, split, self.frames, self.shortest_px)

    def build(self, where: str = "tower") -> VisionTower:
        """The tower, on the CPU; random weights come from torch's seed. Raises ModelError, which `where` begins.

        What its features have no use for is left out: blocks above the layer, heads.
        """
        backbone = load_backbone(self.model, self.weights, where, self.embedding)
        if not (self.stages or self.embedding) and hasattr(backbone.net, "prune_intermediate_layers"):
            backbone.net.prune_intermediate_layers([self.layer], prune_norm=not self.final_norm)  # type: ignore[operator]
            return VisionTower(backbone, self, -1, where)
        return VisionTower(backbone, self, self.layer, where)


def tower_of(net: nn.Module, config: ClipConfig, embedding: bool = False) -> VisionTower:
    """The image tower of one of open_clip's dual encoders, which it shares with it; nothing is left out."""
    settings = TowerConfig(model=dict(config.model), embedding=embedding)
    return VisionTower(of_dual_encoder(net, config, embedding), settings, -1)


class VisionTower(nn.Module):
    """Pictures to vectors by one network: its `shape` says how many and how wide.

    A network none of whose parameters is trained stays in evaluation mode, and runs without gradients. Its own
    LayerNorm, where the settings have one, trains by itself. `block`: the block of `backbone.net` whose vectors are
    taken. Raises ModelError for pictures of a size that the network cannot take.
    """

    mean_C11: Tensor
    std_C11: Tensor

    def __init__(self, backbone: Backbone, config: TowerConfig, block: int, where: str = "tower") -> None:
        super().__init__()
        self.config, self.block, self.where = config, block, where
        self.net, self.own_px = backbone.net, backbone.size_px
        self.size_px = config.size_px or backbone.size_px
        mean, std = config.mean or backbone.mean, config.std or backbone.std
        self.register_buffer("mean_C11", torch.tensor(mean).view(3, 1, 1), persistent=False)
        self.register_buffer("std_C11", torch.tensor(std).view(3, 1, 1), persistent=False)
        self.norm: nn.Module = nn.Identity()
        self._check_network()
        self.shape = self.shape_at(self.size_px)
        if config.norm:
            self.norm = nn.LayerNorm(self.shape.width)

    @property
    def is_trained(self) -> bool:
        """Whether any of the network's parameters is."""
        return any(p.requires_grad for p in self.net.parameters())

    def train(self, mode: bool = True) -> VisionTower:
        """Set training mode; a frozen network stays in evaluation mode: its batch statistics do not move."""
        super().train(mode)
        self.net.train(mode and self.is_trained)
        return self

    def blank(self, device: torch.device) -> Pictures:
        """The views of one black picture."""
        side = self.size_px
        return Pictures(torch.zeros(self.config.views.views, 3, side, side, dtype=torch.uint8, device=device))

    def described(self) -> TowerConfig:
        """The settings by which it can be built again where nothing but its weights is at hand."""
        model = self.config.model
        if isinstance(model, str) and model.endswith(".safetensors"):
            model = dict(exported_config(Path(model)).model)
        elif isinstance(model, str) and model.endswith(".json"):
            model = named_config(json.loads(Path(model).read_text(encoding="utf-8")), self.where)
        mean, std = (tuple(colour.flatten().tolist()) for colour in (self.mean_C11, self.std_C11))
        own = {"model": model, "weights": None, "size_px": self.size_px, "mean": mean, "std": std}
        return self.config.model_copy(update=own)

    def shape_at(self, size_px: int) -> TowerShape:
        """Shape of the vectors of pictures of that size, found without computing anything. Raises ModelError."""
        patch = self._patch_px
        if patch and size_px % patch and size_px != self.own_px:
            below = max(size_px // patch, 1) * patch
            raise ModelError(
                f"{self.where}: its patches have {patch} pixels a side, so a picture cannot have {size_px}: take"
                f" {below} or {below + patch}"
            )
        try:
            found = self._run_on_meta(size_px)
        except (RuntimeError, AssertionError, ValueError, TypeError) as err:
            raise ModelError(
                f"{self.where}: it cannot take pictures of {size_px} pixels: {str(err)[:300]}; give a size that it can,"
                f" as its own {self.own_px}"
            ) from err
        native = self.config.fit == "native"
        return TowerShape(found.x_MPD.shape[2], found.grid, self.config.class_vector, len(found.x_MPD), native)

    def forward(self, pictures: Pictures) -> Features:
        """The vectors of all views; which of them show something of a picture that is not whole."""
        with torch.set_grad_enabled(self.is_trained and torch.is_grad_enabled()):
            found = self._look(pictures.x_MCHW, pictures.size_M2)
        return Features(self.norm(found.x_MPD), found.grid, found.there_MP)

    @property
    def _patch_px(self) -> int | None:
        """The side of a vision transformer's patches."""
        size: Any = getattr(getattr(self.net, "patch_embed", self.net), "patch_size", None)
        return None if size is None else int(size[0])

    def _check_network(self) -> None:
        """Raise ModelError for settings that the network has nothing for."""
        net, config = self.net, self.config
        prefix = getattr(net, "num_prefix_tokens", int(hasattr(net, "class_embedding")))
        if config.class_vector and not prefix:
            raise ModelError(f"{self.where}: the network has no class vector: leave class_vector out")
        if config.stages and self._patch_px and not hasattr(net, "stages"):
            raise ModelError(f"{self.where}: the network has no stages, only blocks: leave stages out")
        if config.fit == "native" and (prefix or not hasattr(net, "blocks") or getattr(net, "pos_embed", None) is None):
            raise ModelError(
                f"{self.where}: pictures of native aspect ratio take a vision transformer of timm with learnt positions"
                " and no class vector, as open_clip's SigLIP or timm:vit_so400m_patch14_siglip_384"
            )

    def _run_on_meta(self, size_px: int) -> Features:
        """The shapes of what it gives of one picture."""
        was_training = self.training
        self.eval()
        meta = {name: tensor.to("meta") for name, tensor in chain(self.named_parameters(), self.named_buffers())}
        x_VCHW = torch.zeros(self.config.views.views, 3, size_px, size_px, dtype=torch.uint8, device="meta")
        try:
            with torch.no_grad():
                found: Features = functional_call(self, meta, (Pictures(x_VCHW),))
        finally:
            self.train(was_training)
        return found

    def _look(self, x_MCHW: Tensor, size_M2: Tensor | None) -> Features:
        x_MCHW = x_MCHW.to(memory_format=torch.channels_last)
        images_MCHW = ((x_MCHW.float() / 255 - self.mean_C11) / self.std_C11).to(self.std_C11.dtype)
        if self.config.fit == "native":
            if size_M2 is None:
                size_M2 = torch.tensor([x_MCHW.shape[-2:]], device=x_MCHW.device).expand(len(x_MCHW), 2)
            else:
                images_MCHW = without_padding(images_MCHW, size_M2, self._patch_px or 1)
            return native_features(self.net, images_MCHW, size_M2, self.config.final_norm)
        if self.config.embedding:
            changed = at_resolution(self.net, x_MCHW.shape[-1], "")
            embeddings_MD = functional_call(self.net, changed, (images_MCHW,))
            return Features(F.normalize(embeddings_MD, dim=-1)[:, None], (1, 1))
        rasters, class_M1D = self._blocks(images_MCHW)
        x_MDhw = joined(rasters, self.config.side)
        if self.config.split is not None and self.config.split.of == "features":
            x_MDhw = cut_raster(x_MDhw, self.config.split.tiles, self.config.split.whole)
        grid = x_MDhw.shape[2], x_MDhw.shape[3]
        x_MPD = x_MDhw.flatten(2).transpose(1, 2)
        there_MP = None if size_M2 is None else there_in_square(size_M2, x_MCHW.shape[-1], grid)
        if class_M1D is not None:
            x_MPD = torch.cat((class_M1D, x_MPD), 1)
            there_MP = None if there_MP is None else torch.cat((there_MP.any(1, keepdim=True), there_MP), 1)
        return Features(x_MPD, grid, there_MP)

    def _blocks(self, images_MCHW: Tensor) -> tuple[list[Tensor], Tensor | None]:
        """The rasters that are wanted, M x D x h x w each, and the class vector if it is."""
        wanted = None if self.config.stages else [self.block]
        options = {"indices": wanted, "intermediates_only": True, "stop_early": True}
        if hasattr(self.net, "pretrained_cfg"):
            return self._blocks_of_timm(images_MCHW, options)
        changed = at_resolution(self.net, images_MCHW.shape[-1], "net.")
        options |= {"normalize_intermediates": self.config.final_norm, "output_extra_tokens": self.config.class_vector}
        out = functional_call(_Intermediates(self.net), changed, (images_MCHW,), options)
        rasters, classes = out["image_intermediates"], out.get("image_intermediates_prefix")
        return rasters[-4:], None if classes is None else classes[0][:, :1]  # a ResNet's stem is no stage

    def _blocks_of_timm(self, images_MCHW: Tensor, options: dict[str, Any]) -> tuple[list[Tensor], Tensor | None]:
        patch = self._patch_px or 1  # of 384 pixels, SigLIP's patches of 14 leave 6 out
        height, width = (side - side % patch for side in images_MCHW.shape[-2:])
        options |= {"norm": self.config.final_norm}
        if self.config.class_vector:
            options["return_prefix_tokens"] = True
        net: Any = self.net
        found = net.forward_intermediates(images_MCHW[..., :height, :width], **options)
        return ([found[0][0]], found[0][1][:, :1]) if self.config.class_vector else (found, None)


class _Intermediates(nn.Module):
    """A network of open_clip whose forward gives intermediate rasters."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net: Any = net

    def forward(self, images_MCHW: Tensor, **options: Any) -> dict[str, list[Tensor]]:
        found: dict[str, list[Tensor]] = self.net.forward_intermediates(images_MCHW, **options)
        return found

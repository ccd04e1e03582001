"""Connectors over several towers: Cambrian-1's aggregator, channels joined, Mini-Gemini's mining."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from curate.models.connectors.channels import Channels
from curate.models.connectors.mining import Mining
from curate.models.connectors.rasters import windows_of
from curate.models.connectors.sva import InsideConfig, Sva, SvaConfig, SvaLayer
from curate.models.connectors.table import connector_of
from curate.models.features import Features, TowerShape
from curate.models.files import ModelError
from curate.models.towers.rasters import cut_raster

CAMBRIAN = [
    TowerShape(1152, (27, 27)),  # SigLIP, CLIP, DINOv2, the four stages of a ConvNeXt
    TowerShape(1024, (24, 24)),
    TowerShape(1536, (27, 27)),
    TowerShape(5760, (96, 96)),
]
GEMINI = [TowerShape(1024, (24, 24), class_vector=True), TowerShape(2880, (192, 192))]
SMALL = {"type": "sva", "side": 4, "width": 32, "heads": 2, "layers": 2}
TOWERS = [TowerShape(12, (4, 4), class_vector=True), TowerShape(20, (9, 9)), TowerShape(8, (16, 16))]


def count(*modules: nn.Module) -> int:
    return sum(p.numel() for module in modules for p in module.parameters())


def looks(towers: list[TowerShape], pictures: int = 2) -> list[Features]:
    generator = torch.Generator().manual_seed(5)
    return [Features(torch.randn(pictures * t.views, t.vectors, t.width, generator=generator), t.grid) for t in towers]


def small(**changed: Any) -> Sva:
    torch.manual_seed(0)
    made = connector_of({**SMALL, **changed}).build(TOWERS, 24)
    assert isinstance(made, Sva)
    return made.eval()


def positions(side: int) -> Tensor:
    """A raster of its own places' numbers."""
    return torch.arange(float(side * side)).view(1, 1, side, side)


@pytest.mark.parametrize(
    ("width", "inside", "layer", "without", "whole"),
    [
        (4096, InsideConfig(stride=3, layers=10), 22_056_960, 82_191_360, 302_760_960),
        (5120, InsideConfig(stride=4, layers=10), 24_154_112, 92_680_192, 334_221_312),
        (7168, InsideConfig(stride=7, layers=9), 28_348_416, 119_949_312, 375_085_056),
    ],
)
def test_aggregator_has_the_published_sizes(
    width: int, inside: InsideConfig, layer: int, without: int, whole: int
) -> None:
    with torch.device("meta"):
        plain, deep = SvaConfig().build(CAMBRIAN, width), SvaConfig(inside=inside).build(CAMBRIAN, width)
    assert deep.inside is not None
    assert [count(plain), count(deep), count(deep.inside[0])] == [without, whole, layer]
    assert [count(tower) for tower in plain.towers] == [2_232_320, 2_101_248, 2_625_536, 6_950_912]
    assert count(plain.groups) == 47_296_512 and count(plain.groups[0][0]) == 15_765_504  # type: ignore[index]
    assert plain.places == 600


def test_windows_of_the_finest_tower_are_the_published_ones() -> None:
    windows = windows_of(positions(96), 24)[..., 0].view(24, 24, 16).long()
    rows = [range(392, 396), range(488, 492), range(584, 588), range(680, 684)]
    assert windows[1, 2].tolist() == [n for row in rows for n in row]
    assert windows[23, 23, -1] == 9215
    assert sorted(windows.flatten().tolist()) == list(range(96 * 96))


def test_a_place_looks_at_nineteen_vectors_and_at_the_first_towers_mean() -> None:
    """Of 1 + 1 + 1 + 16 keys, which the gradient finds: what a place depends on, towers that need no resizing."""
    towers = [TowerShape(8, (4, 4)), TowerShape(8, (4, 4)), TowerShape(8, (4, 4)), TowerShape(8, (16, 16))]
    torch.manual_seed(0)
    made = SvaConfig(side=4, width=32, heads=2, layers=1, newlines=False).build(towers, 24).eval()
    found = looks(towers, 1)
    for one in found:
        one.x_MPD.requires_grad_()
    vectors = made(found)
    vectors[0, 6].square().sum().backward()  # place (1, 2)
    seen = [one.x_MPD.grad[0].abs().sum(1) > 0 for one in found]  # type: ignore[index]
    assert seen[0].all()  # its own vector, and all by the context
    own = [mask.nonzero()[:, 0].tolist() for mask in seen[1:]]
    assert own[:2] == [[6], [6]] and own[2] == windows_of(positions(16), 4)[6, :, 0].long().tolist()
    assert 1 + sum(map(len, own)) == 19


def test_layer_is_one_softmax_over_all_towers_windows() -> None:
    """Against the attention written down place by place."""
    made = small()
    layer, windows = made.groups[0][0], made.look(looks(TOWERS)).flatten(0, 1)  # type: ignore[index]
    assert (windows[..., -1] == 1).all()
    assert isinstance(layer, SvaLayer)
    query = torch.randn(32, 32)
    x = layer.into(torch.cat((query, layer.context(windows[:, 0, :-1])), 1))
    q, rows = layer.q(x), []
    for place in range(32):
        tower = list(windows[place, 1:, :-1].split([1, 4, 16]))
        tower[1] = tower[1] + layer.positions["1"]
        tower[2] = tower[2] + layer.positions["2"]
        k = torch.cat([layer.k[n](x_WD) for n, x_WD in enumerate(tower)])
        v = torch.cat([layer.v[n](x_WD) for n, x_WD in enumerate(tower)])
        assert len(k) == 1 + 4 + 16
        heads = [F.softmax(q[place, h : h + 16] @ k[:, h : h + 16].T / 4, 0) @ v[:, h : h + 16] for h in (0, 16)]
        rows.append(torch.cat(heads))
    x = layer.norm(x + layer.found(torch.stack(rows)))
    torch.testing.assert_close(layer(query, windows), query + layer.out(F.gelu(layer.up(x))))


def test_every_row_of_places_ends_with_the_newline() -> None:
    made = small()
    vectors = made(looks(TOWERS))
    assert vectors.shape == (2, 20, 24) and made.newline is not None
    rows = vectors.view(2, 4, 5, 24)
    assert torch.equal(rows[:, :, -1], made.newline.expand(2, 4, -1))
    made.newline = None
    made.places = 16
    torch.testing.assert_close(made(looks(TOWERS)).view(2, 4, 4, 24), rows[:, :, :-1])


def test_padding_is_not_seen_and_a_window_with_nothing_left_is_shown_whole() -> None:
    made, found = small(), looks(TOWERS, 1)
    there = torch.ones(1, 16, 16, dtype=torch.bool)
    there[:, 10:] = False  # of the third row of windows half is there, of the last nothing
    fine = Features(found[2].x_MPD, (16, 16), there.flatten(1))
    changed = found[2].x_MPD.clone().view(1, 16, 16, -1)
    changed[:, 10:12] += 1
    other = Features(changed.flatten(1, 2), (16, 16), fine.there_MP)
    torch.testing.assert_close(made([*found[:2], other]), made([*found[:2], fine]))
    assert not torch.allclose(made([*found[:2], Features(other.x_MPD, (16, 16))]), made(found))
    changed[:, 12:] += 1
    last = made([*found[:2], Features(changed.flatten(1, 2), (16, 16), fine.there_MP)]).view(4, 5, -1)
    whole = made([*found[:2], fine]).view(4, 5, -1)
    torch.testing.assert_close(last[:3], whole[:3])
    assert torch.isfinite(last).all() and not torch.allclose(last[3], whole[3])
    none = Features(found[2].x_MPD, (16, 16), torch.zeros(1, 256, dtype=torch.bool))
    torch.testing.assert_close(made([*found[:2], none]), made(found))


def test_groups_have_queries_and_layers_of_their_own() -> None:
    one, two = small(), small(groups=2)
    assert count(two.groups) == 2 * count(one.groups) and two.up.in_features == 64
    assert two(looks(TOWERS)).shape == (2, 20, 24)


def test_layers_inside_change_the_pictures_places_alone_and_see_their_own_picture() -> None:
    made = small(inside={"start": 1, "stride": 2, "layers": 2})
    windows = made.look(looks(TOWERS))
    pictured = torch.zeros(2, 30, dtype=torch.bool)
    pictured[0, 1:21], pictured[1, 7:27] = True, True  # anywhere, not at one fixed place
    between, x = made.between(windows, pictured), torch.randn(2, 30, 24)
    assert [layer for layer in range(7) if not torch.equal(between(layer, x), x)] == [2, 4]
    moved = (between(2, x) != x).any(2)
    newlines = torch.arange(20) % 5 == 4
    assert torch.equal(moved[0, 1:21], ~newlines) and torch.equal(moved[1, 7:27], ~newlines)
    assert moved.sum() == 32
    other = looks(TOWERS)
    other[2].x_MPD[1] += 1
    changed = made.between(made.look(other), pictured)(2, x)
    torch.testing.assert_close(changed[0], between(2, x)[0])
    assert not torch.allclose(changed[1], between(2, x)[1])


def test_mining_has_the_published_sizes_and_cells() -> None:
    with torch.device("meta"):
        made = connector_of({"type": "mining"}).build(GEMINI, 4096)
        tiled = connector_of({"type": "mining"}).build(
            [TowerShape(1024, (24, 24), True, views=5), TowerShape(2880, (192, 192), views=5)], 4096
        )
    assert isinstance(made, Mining)
    assert count(made.q, made.k, made.v) == 6_963_456 and count(made.up, made.out) == 20_979_712
    assert (made.places, tiled.places) == (576, 2880)
    cells = windows_of(positions(192), 24)[..., 0].view(24, 24, 64).long()
    assert [cells[1, 2, 0], cells[1, 2, -1], cells[23, 23, 0], cells[23, 23, -1]] == [1552, 2903, 35512, 36863]


def miner(views: int = 1) -> tuple[Mining, list[TowerShape]]:
    torch.manual_seed(0)
    towers = [TowerShape(16, (3, 3), class_vector=True, views=views), TowerShape(10, (12, 12), views=views)]
    made = connector_of({"type": "mining", "cell": 4}).build(towers, 24)
    assert isinstance(made, Mining)
    return made, towers


def test_what_is_mined_is_one_heads_attention_in_the_own_cell_added_to_the_raw_vector() -> None:
    made, towers = miner()
    coarse, fine = looks(towers)
    raster = fine.x_MPD.transpose(1, 2).view(2, 10, 12, 12)
    cell = raster[1, :, 4:8, 8:12].flatten(1).T  # place (1, 2) of the second picture
    raw = coarse.x_MPD[1, 1 + 5]
    found = F.softmax(made.q(raw) @ made.k(cell).T / 4, 0) @ made.v(cell)
    wanted = made.out(F.gelu(made.up(raw + found)))
    torch.testing.assert_close(made([coarse, fine])[1, 5], wanted)


def test_tiles_are_mined_in_their_quarters_and_the_whole_in_the_map_halved() -> None:
    """5N: the first tower saw a whole and four tiles, the second's raster of the large picture is cut alike."""
    made, towers = miner(5)
    coarse, large = looks(towers, 1)[0], torch.randn(1, 10, 24, 24)
    cut = cut_raster(large, 2, "first").flatten(2).transpose(1, 2)
    found = made([coarse, Features(cut, (12, 12))])
    assert found.shape == (1, 45, 24)
    quarter = large[:, :, 12:, :12]  # of view 3, the tile at the bottom left
    raw, cells = coarse.x_MPD[3, 1:], windows_of(quarter, 3)
    torch.testing.assert_close(found[0, 27:36], made.out(F.gelu(made.up(raw + made.mine(raw, cells)))))
    raw, cells = coarse.x_MPD[0, 1:], windows_of(F.avg_pool2d(large, 2), 3)
    torch.testing.assert_close(found[0, :9], made.out(F.gelu(made.up(raw + made.mine(raw, cells)))))


def test_channels_are_joined_at_the_first_towers_raster_after_resizing() -> None:
    made = connector_of({"type": "channels"}).build(TOWERS, 24)
    assert isinstance(made, Channels) and made.up.in_features == 40 and made.places == 16
    found = looks(TOWERS)
    fine = F.interpolate(found[2].x_MPD.transpose(1, 2).view(2, 8, 16, 16), (4, 4), mode="bilinear")
    middle = F.interpolate(found[1].x_MPD.transpose(1, 2).view(2, 20, 9, 9), (4, 4), mode="bilinear")
    joined = torch.cat((found[0].x_MPD[:, 1:], *(x.flatten(2).transpose(1, 2) for x in (middle, fine))), 2)
    torch.testing.assert_close(made(found), made.out(F.gelu(made.up(joined))))


@pytest.mark.parametrize(
    ("settings", "towers", "message"),
    [
        ({"type": "mining"}, TOWERS[:1], "takes two towers"),
        ({"type": "mining"}, [TowerShape(8, (3, 3), views=5), TowerShape(8, (24, 24))], r"see \[1, 5\] views"),
        (SMALL, [TOWERS[0], TowerShape(8, (16, 16), views=5)], r"see \[1, 5\] views"),
        ({"type": "channels"}, [TOWERS[0], TowerShape(8, (16, 16), views=5)], r"see \[1, 5\] views"),
    ],
)
def test_towers_that_do_not_fit_are_refused(settings: Any, towers: list[TowerShape], message: str) -> None:
    with pytest.raises(ModelError, match=message):
        connector_of(settings).build(towers, 24)

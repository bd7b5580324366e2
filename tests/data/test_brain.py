"""Blocks and patches of the brain: labels on another grid, the order of the axes, and slabs of one split."""

import numpy as np

from data.builders.brain import LAYERS, SIDE, SLABS, blocks, nearest, patches


def test_labels_of_another_grid_are_those_at_the_same_place():
    """A grid of voxels twice as long, moved by 3 mm along the first axis."""
    ids = np.random.default_rng(0).integers(1, 200, (8, 6, 4))
    space, onto = np.diag([1.0, 1, 1, 1]), np.diag([2.0, 2, 2, 1])
    onto[0, 3] = 3
    found = nearest(ids, space, (5, 3, 2), onto)
    for x, y, z in np.ndindex(found.shape):
        place = (2 * x + 3, 2 * y, 2 * z)
        assert found[x, y, z] == (ids[place] if place[0] < 8 else 0)
    assert (found == 0).any()


def test_blocks_have_layers_first_and_slabs_of_one_split():
    shape = (2 * SIDE, 8 * SIDE, LAYERS + 2)
    x, y, z = np.indices(shape)
    volume, labels = (x + 1000 * y + 1_000_000 * z).astype(float), (y % 2).astype(np.uint8)
    found = dict(blocks(volume, labels, (3,)))
    assert list(found) == ["3-0", "3-1"]
    block = found["3-1"]
    assert block["volume"].shape == block["label_map"].shape == (LAYERS, SIDE, SIDE, 1)
    assert block["volume"][5, 7, 9, 0] == (SIDE + 9) + 1000 * (3 * SIDE + 7) + 1_000_000 * 5
    assert block["label_map"][5, 7, 9, 0] == (3 * SIDE + 7) % 2
    slabs = [slab for some in SLABS.values() for slab in some]
    assert sorted(slabs) == list(range(8))


def test_patches_show_the_tissue_in_their_middle_and_nothing_of_another_slab():
    shape = (2 * SIDE, 8 * SIDE, LAYERS + 2)
    x, y, z = np.indices(shape)
    volume = (x + 100 * y + 40_000 * z).astype(np.int32)
    ids = np.random.default_rng(0).choice([0, 1, 4, 5, 39, 81, 94, 95, 101, 208], shape)  # of all kinds
    labels = {1: 0, 4: 0, 101: 1, 208: 1, 81: 2, 94: 2}
    found = dict(patches(volume, ids, (3, 4), 50, np.random.default_rng(0)))
    assert sorted(example["label"] for example in found.values()) == [0] * 50 + [1] * 50 + [2] * 50
    slabs = set()
    for name, example in found.items():
        patch = example["volume"].astype(int)[..., 0]
        assert patch.shape == (5, 16, 16)
        place = tuple(map(int, name.split("-")))
        assert patch[2, 8, 8] == volume[place] and labels[ids[place]] == example["label"]
        assert patch[3, 8, 7] == volume[place] - 1 + 40_000 and patch[2, 9, 8] == volume[place] + 100
        across = {slab // SIDE for slab in (patch % 40_000 // 100).ravel()}
        assert len(across) == 1 and (patch // 40_000).max() < LAYERS
        slabs |= across
    assert slabs == {3, 4}

import numpy as np
import pytest
import torch
from torch.utils.data import TensorDataset
from toyscenes import toy_scenes

from hsiutils.data.classes import CLASSES, FREQUENCIES, VOID, inverse_frequency_weights
from hsiutils.data.cube import to_unit_range
from hsiutils.models.batches import EpochSampler, examine, loader, require_batches
from hsiutils.models.recipe import Recipe, precision
from hsiutils.models.segmenter import (
    Segmenter,
    brighten,
    dice_loss,
    kernels,
    loss_weights,
    mirror,
    overlaps,
)
from hsiutils.models.unet import UNet, UNetConfig

CONFIG = UNetConfig(channels=3, depth=1, filters=2, dropout=0.0, class_names=CLASSES)
SHARES = np.array([0.5, 0.1, 0.2, 0.1, 0.1])


def segmenter(recipe=None):
    module = Segmenter(UNet(CONFIG), recipe or Recipe(), SHARES, seed=0)
    module.log = lambda *args, **kwargs: None
    return module


def test_authors_recipe():
    recipe = Recipe()
    assert (recipe.batch, recipe.learning_rate, recipe.drop_epoch, recipe.drop_factor) == (2, 1e-3, 30, 0.1)
    assert (recipe.l2, recipe.patience, recipe.min_delta, recipe.flip) == (1e-4, 80, 5e-3, False)


def test_published_weights_need_a_data_set():
    with pytest.raises(ValueError, match="needs a data set"):
        loss_weights(Recipe(class_weights="published"), np.array(FREQUENCIES))


@pytest.mark.parametrize("mode", ["inverse-frequency", "none", (1.0, 2.0, 3.0, 4.0, 5.0)])
def test_weights_have_mean_one_over_pixels(mode):
    weights = loss_weights(Recipe(class_weights=mode), SHARES)
    assert np.sum(weights * SHARES) == pytest.approx(1)


def test_inverse_frequency_gives_every_class_the_same_say_and_none_to_absent_ones():
    shares = np.array([0.5, 0.1, 0.2, 0.2, 0.0])
    weights = loss_weights(Recipe(), shares)
    np.testing.assert_allclose(weights * shares, [0.25, 0.25, 0.25, 0.25, 0])
    np.testing.assert_allclose(weights / weights.sum(), inverse_frequency_weights(shares))


def test_loss_is_the_weighted_cross_entropy_without_void():
    module = segmenter()
    images, labels = toy_scenes(2, 0)[:]
    logits = module.model(images).detach().double().numpy()
    log_p = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
    weights, total, pixels = loss_weights(Recipe(), SHARES), 0.0, 0
    for image, row, column in np.ndindex(labels.shape):
        label = int(labels[image, row, column])
        if label != VOID:
            total -= weights[label] * log_p[image, label, row, column]
            pixels += 1
    assert module.training_step((images, labels), 0).item() == pytest.approx(total / pixels, rel=1e-5)


def test_unlabelled_batch_teaches_nothing():
    loss = segmenter().training_step((torch.zeros(1, 3, 8, 8), torch.full((1, 8, 8), VOID)), 0)
    assert loss.item() == 0


def test_penalty_is_that_of_keras_on_kernels_only():
    """One step of our optimiser against plain Adam on the loss with l2 * sum(kernel**2) written out."""
    recipe = Recipe(l2=0.05)
    ours, reference = segmenter(recipe), segmenter(recipe)
    images, labels = toy_scenes(2, 0)[:]
    for module in (ours, reference):
        for norm in (block.norm1 for block in module.model.blocks()):
            torch.nn.init.constant_(norm.weight, 3.0)  # would shrink if it were penalised
    (adam,), _ = ours.configure_optimizers()
    plain = torch.optim.Adam(reference.model.parameters(), lr=recipe.learning_rate)
    penalty = recipe.l2 * sum(value.square().sum() for value in reference.model.parameters() if value.ndim == 4)
    for optimizer, loss in (
        (adam, ours.training_step((images, labels), 0)),
        (plain, reference.training_step((images, labels), 0) + penalty),
    ):
        loss.backward()
        optimizer.step()
    for mine, theirs in zip(ours.model.parameters(), reference.model.parameters(), strict=True):
        torch.testing.assert_close(mine, theirs, rtol=0, atol=2e-5)
    assert len(list(kernels(ours.model))) == len(ours.model.keras_layers())


def pairs(labels, images=None):
    labels = torch.as_tensor(labels)
    return TensorDataset(torch.zeros(len(labels), 3, *labels.shape[1:]) if images is None else images, labels)


def test_examined_scenes_give_frequencies_and_a_fingerprint():
    config = UNetConfig(channels=3, classes=3, depth=1, filters=2)
    scenes = pairs([[[0, 0, 1], [VOID, 2, 2]]])
    frequencies, fingerprint, held = examine(scenes, config, "training")
    np.testing.assert_allclose(frequencies, [0.4, 0.2, 0.4])
    assert examine(pairs([[[0, 0, 1], [VOID, 2, 2]]]), config, "training")[1] == fingerprint
    assert examine(pairs([[[0, 0, 1], [VOID, 2, 1]]]), config, "training")[1] != fingerprint
    assert examine(pairs(scenes[:][1], torch.ones(1, 3, 2, 3)), config, "training")[1] != fingerprint
    assert all(torch.equal(mine, own) for mine, own in zip(held[0], scenes[0], strict=True))
    scenes.fingerprint = lambda: "drawn anew"
    assert examine(scenes, config, "training")[1:] == ("drawn anew", scenes)


@pytest.mark.parametrize(
    ("scenes", "message"),
    [
        (pairs(np.zeros((0, 2, 3), int)), "there are no validation scenes"),
        (pairs([[[0, 3], [VOID, -1]]]), r"validation scene 0 has class \[-1, 3\]: expected 0\.\.2, or 255"),
        (pairs([[[VOID, VOID]]]), "no pixel of the validation scenes is labelled"),
        (pairs([[[0, 1]]], torch.zeros(1, 4, 1, 2)), r"scene 0: expected an image \(3, 1, 2\).*got \(4, 1, 2\)"),
        (pairs([[[0, 1]]], torch.zeros(1, 3, 1, 3)), r"labels of that size, got \(3, 1, 3\) and \(1, 2\)"),
        (pairs([[[0, 1]]], torch.full((1, 3, 1, 2), torch.nan)), "scene 0: its image holds values that are not finite"),
        ([(torch.zeros(3, size, 2), torch.zeros(size, 2, dtype=int)) for size in (1, 2)], "scene 1: expected an image"),
    ],
)
def test_scenes_that_cannot_be_learnt_from_are_refused(scenes, message):
    with pytest.raises(ValueError, match=message):
        examine(scenes, UNetConfig(channels=3, classes=3, depth=1, filters=2), "validation")


@pytest.mark.parametrize(("count", "batch", "size"), [(3, 2, (32, 32)), (1, 4, (24, 8)), (2, 1, (32, 32))])
def test_a_batch_of_one_pixel_at_the_base_is_refused(count, batch, size):
    config = UNetConfig(channels=3, depth=5, filters=2)
    with pytest.raises(ValueError, match=rf"{count} scenes in batches of {batch} leave one alone, .* 32 x 32 pixels"):
        require_batches(toy_scenes(count, 0, size=size), config, batch)
    require_batches(toy_scenes(count, 0, size=(32, 40)), config, batch)
    require_batches(toy_scenes(2 * count, 0, size=size), config, 2)


@pytest.mark.parametrize(("count", "batch"), [(8, 3), (9, 4)])
def test_batches_that_cannot_be_shared_out_are_refused(count, batch):
    with pytest.raises(ValueError, match=rf"{count} scenes in batches of {batch}, .* cannot be shared out to 2 proc"):
        require_batches(toy_scenes(count, 0), CONFIG, batch, processes=2)
    require_batches(toy_scenes(8, 0), CONFIG, 4, processes=2)


def test_processes_share_every_batch():
    scenes = toy_scenes(10, 0)
    whole = list(EpochSampler(scenes, 0))
    parts = [list(EpochSampler(scenes, 0, rank, 2)) for rank in (0, 1)]
    for start, share in zip(range(0, 10, 4), range(0, 6, 2), strict=True):  # batches of 4, 4 and 2
        batch = [index for part in parts for index in part[share : share + 2]]
        assert sorted(batch) == sorted(whole[start : start + 4])
    assert [len(EpochSampler(scenes, 0, rank, 2)) for rank in (0, 1)] == [5, 5]


def test_held_batches_stay_channels_last_in_their_number_format():
    held = examine(toy_scenes(3, 0), CONFIG, "training", torch.bfloat16).scenes
    ((images, labels),) = loader(held, 3)
    assert images.is_contiguous(memory_format=torch.channels_last)
    assert images.dtype == torch.bfloat16
    assert torch.equal(images, toy_scenes(3, 0)[:][0].bfloat16())
    assert torch.equal(labels, toy_scenes(3, 0)[:][1])


def test_bfloat16_gradients_point_where_float32_ones_do():
    """Rounded to 8 bits, 0.4 % a product, they keep their direction: within 5 degrees, every kernel's within 25."""
    config = UNetConfig(channels=3, depth=2, filters=8, dropout=0.0, class_names=CLASSES)
    images, labels = toy_scenes(2, 0, size=(48, 64))[:]
    gradients = []
    for dtype in (torch.float32, torch.bfloat16):
        module = Segmenter(UNet(config), Recipe(), SHARES, seed=0)
        module.log = lambda *args, **kwargs: None
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=dtype == torch.bfloat16):
            loss = module.training_step((images.to(dtype), labels), 0)
        loss.backward()
        gradients.append([kernel.grad for kernel in kernels(module.model)])
    exact, rounded = (torch.cat([part.flatten() for part in parts]) for parts in gradients)
    assert torch.cosine_similarity(exact, rounded, dim=0) > np.cos(np.deg2rad(5))
    for one, other in zip(*gradients, strict=True):
        assert torch.cosine_similarity(one.flatten(), other.flatten(), dim=0) > np.cos(np.deg2rad(25))


@pytest.mark.parametrize(
    ("able", "expected"),
    [({}, "32-true"), ({"avx512_bf16": True}, "bf16-mixed"), ({"avx512_bf16": False, "amx_bf16": True}, "bf16-mixed")],
)
def test_automatic_precision_is_what_the_processor_is_made_for(monkeypatch, able, expected):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: able)
    assert precision("auto", "cpu") == expected
    assert precision("32-true", "cpu") == "32-true"


def test_tempered_weights_keep_their_mean_and_lose_their_spread():
    weights = {power: loss_weights(Recipe(), SHARES, power) for power in (0.0, 0.5, 1.0)}
    np.testing.assert_allclose(weights[0.0], 1)
    np.testing.assert_allclose(weights[0.5] / weights[0.5][0], np.sqrt(weights[1.0] / weights[1.0][0]))
    np.testing.assert_allclose([np.sum(value * SHARES) for value in weights.values()], 1)


def test_dice_loss_is_one_minus_the_overlap_of_the_classes_that_are_there():
    labels = torch.tensor([[[0, 0, 1, VOID]]])
    certain = 50.0 * torch.nn.functional.one_hot(torch.tensor([[[0, 1, 1, 2]]]), 5).permute(0, 3, 1, 2).float()
    # Class 0: one of two pixels found, 2 * 1 / (1 + 2 + 1); class 1: found, and one pixel too many, the same.
    assert dice_loss(*overlaps(certain, labels)).item() == pytest.approx(0.5)
    assert dice_loss(*overlaps(certain, torch.full_like(labels, VOID))).item() == 0
    whole = overlaps(certain, labels)
    halves = [overlaps(certain[..., part], labels[..., part]) for part in (slice(0, 2), slice(2, 4))]
    for index in (0, 1):  # so that processes can add theirs
        torch.testing.assert_close(whole[index], halves[0][index] + halves[1][index])


def test_order_depends_on_seed_and_epoch_alone():
    def order(seed, epoch):
        sampler = EpochSampler(toy_scenes(30, 0), seed)
        sampler.set_epoch(epoch)
        torch.rand(7)  # the global stream is of no importance
        return list(sampler)

    assert sorted(order(0, 0)) == list(range(30))
    assert order(0, 3) == order(0, 3)
    assert order(0, 3) != order(0, 4)
    assert order(0, 3) != order(1, 3)


def test_mirror_flips_image_and_labels_together():
    images = torch.arange(40.0).reshape(20, 1, 1, 2).expand(20, 3, 4, 2).contiguous()
    labels = torch.arange(40).reshape(20, 1, 2).expand(20, 4, 2).contiguous()
    chosen = torch.arange(20) % 3 == 0
    flipped, flipped_labels = mirror(images, labels, chosen)
    assert torch.equal(flipped[:, 0], flipped_labels.float())
    assert torch.equal(flipped[chosen], images[chosen].flip(-1))
    assert torch.equal(flipped[~chosen], images[~chosen])


def test_a_brightened_input_is_that_of_a_brighter_cube():
    cubes = np.random.default_rng(0).uniform(0, 0.6, (3, 2, 4, 5))
    factors, limits = np.array([0.4, 1.0, 2.5]), [0.6, 0.7]
    expected = [to_unit_range(f * cube, 0.0, limits) for f, cube in zip(factors, cubes, strict=True)]
    images = torch.as_tensor(np.stack([to_unit_range(cube, 0.0, limits) for cube in cubes]))
    found = brighten(images, torch.as_tensor(factors).float())
    torch.testing.assert_close(found, torch.as_tensor(np.stack(expected)), rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"brightness": -0.1}, "brightness >= 0, got"),
        ({"epochs": 0}, "Recipe.epochs"),
        ({"learning_rate": 0.0}, "learning_rate > 0"),
        ({"schedule": "cosine"}, "'step' or 'one-cycle'"),
        ({"keep": "first"}, "'best' or 'last'"),
        ({"epochs": 5, "validate_every": 2}, "multiple of validate_every"),
    ],
)
def test_impossible_recipes_are_refused(wrong, message):
    with pytest.raises(ValueError, match=message):
        Recipe(**wrong)

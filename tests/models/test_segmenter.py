import numpy as np
import pytest
import torch
from torch.utils.data import TensorDataset
from toyscenes import toy_scenes

from hsiutils.data.classes import CLASSES, FREQUENCIES, VOID, inverse_frequency_weights
from hsiutils.models.segmenter import (
    EpochSampler,
    Recipe,
    Segmenter,
    examine,
    kernels,
    loss_weights,
    mirror,
    require_batches,
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
    frequencies, fingerprint = examine(scenes, config, "training")
    np.testing.assert_allclose(frequencies, [0.4, 0.2, 0.4])
    assert examine(pairs([[[0, 0, 1], [VOID, 2, 2]]]), config, "training")[1] == fingerprint
    assert examine(pairs([[[0, 0, 1], [VOID, 2, 1]]]), config, "training")[1] != fingerprint
    assert examine(pairs(scenes[:][1], torch.ones(1, 3, 2, 3)), config, "training")[1] != fingerprint
    scenes.fingerprint = lambda: "drawn anew"
    assert examine(scenes, config, "training")[1] == "drawn anew"


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
    config, recipe = UNetConfig(channels=3, depth=5, filters=2), Recipe(batch=batch)
    with pytest.raises(ValueError, match=rf"{count} scenes in batches of {batch} leave one alone, .* 32 x 32 pixels"):
        require_batches(toy_scenes(count, 0, size=size), config, recipe)
    require_batches(toy_scenes(count, 0, size=(32, 40)), config, recipe)
    require_batches(toy_scenes(2 * count, 0, size=size), config, Recipe(batch=2))


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
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        flipped, flipped_labels = mirror(images, labels)
    assert torch.equal(flipped[:, 0], flipped_labels.float())
    changed = (flipped != images).flatten(1).any(dim=1)
    assert 0 < changed.sum() < 20
    assert torch.equal(flipped[changed], images[changed].flip(-1))


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"epochs": 0}, "Recipe.epochs"),
        ({"learning_rate": 0.0}, "learning_rate > 0"),
        ({"schedule": "cosine"}, "'step' or 'one-cycle'"),
        ({"epochs": 5, "validate_every": 2}, "multiple of validate_every"),
    ],
)
def test_impossible_recipes_are_refused(wrong, message):
    with pytest.raises(ValueError, match=message):
        Recipe(**wrong)

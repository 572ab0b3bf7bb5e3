import numpy as np
import pytest
import torch
from torch.utils.data import TensorDataset
from toyscenes import toy_scenes

from hsiutils.data.classes import CLASSES, FREQUENCIES, VOID, inverse_frequency_weights
from hsiutils.models.segmenter import EpochSampler, Recipe, Segmenter, kernels, label_frequencies, loss_weights, mirror
from hsiutils.models.unet import UNet, UNetConfig

CONFIG = UNetConfig(channels=3, depth=1, filters=2, dropout=0.0, class_names=CLASSES)
SHARES = np.array([0.5, 0.1, 0.2, 0.1, 0.1])


def segmenter(recipe=None, shares=SHARES):
    return Segmenter(UNet(CONFIG), recipe or Recipe(), shares, seed=0)


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
    say = loss_weights(Recipe(), shares) * shares
    np.testing.assert_allclose(say, [0.25, 0.25, 0.25, 0.25, 0])
    weights = loss_weights(Recipe(), shares)
    np.testing.assert_allclose(weights / weights.sum(), inverse_frequency_weights(shares))


def test_weights_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match="do not fit 5 classes"):
        loss_weights(Recipe(class_weights=(1.0, 2.0)), SHARES)


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
    module.log = lambda *args, **kwargs: None
    assert module.training_step((images, labels), 0).item() == pytest.approx(total / pixels, rel=1e-5)


def test_unlabelled_batch_teaches_nothing():
    module = segmenter()
    module.log = lambda *args, **kwargs: None
    loss = module.training_step((torch.zeros(1, 3, 8, 8), torch.full((1, 8, 8), VOID)), 0)
    assert loss.item() == 0


def test_penalty_is_that_of_keras_on_kernels_only():
    """One step of our optimiser against plain Adam on the loss with l2 * sum(kernel**2) written out."""
    recipe = Recipe(l2=0.05)
    ours, reference = segmenter(recipe), segmenter(recipe)
    images, labels = toy_scenes(2, 0)[:]
    for module in (ours, reference):
        module.log = lambda *args, **kwargs: None
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


def test_label_frequencies():
    labels = torch.tensor([[[0, 0, 1], [VOID, 2, 2]]])
    scenes = TensorDataset(torch.zeros(1, 3, 2, 3), labels)
    np.testing.assert_allclose(label_frequencies(scenes, 3), [0.4, 0.2, 0.4])
    with pytest.raises(ValueError, match=r"scene 0 has class 2: expected 0\.\.1"):
        label_frequencies(scenes, 2)
    with pytest.raises(ValueError, match="no labelled pixel"):
        label_frequencies(TensorDataset(torch.zeros(1, 3, 2, 3), torch.full((1, 2, 3), VOID)), 2)


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

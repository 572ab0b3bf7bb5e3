import pytest
import torch

from hsiutils.attribution.targets import Target, class_map, margin, one_image, pixel, region, weights

SHAPE = (5, 3, 4)
LOGITS = torch.randn(2, *SHAPE, generator=torch.Generator().manual_seed(0))


def test_pixel_reads_one_logit():
    assert torch.equal(pixel(SHAPE, 3, 2, 1).value(LOGITS), LOGITS[:, 3, 2, 1])


def test_classes_go_by_name_too():
    assert torch.equal(pixel(SHAPE, "Vegetation", 0, 0).value(LOGITS), LOGITS[:, 2, 0, 0])
    assert pixel(SHAPE, 2, 1, 3).name == "Vegetation at (1, 3)"


def test_region_sums_or_averages_over_its_mask():
    mask = LOGITS[0, 0] > 0
    total = region(SHAPE, 1, mask).value(LOGITS)
    torch.testing.assert_close(total, LOGITS[:, 1, mask].sum(1))
    torch.testing.assert_close(region(SHAPE, 1, mask, mean=True).value(LOGITS), total / mask.sum())


def test_a_margin_is_the_class_less_the_mean_of_the_others_and_ignores_what_all_share():
    mask = LOGITS[0, 0] > 0
    target = margin(SHAPE, "Vegetation", mask)
    others = LOGITS[:, [0, 1, 3, 4]].mean(1)
    torch.testing.assert_close(target.value(LOGITS), (LOGITS[:, 2] - others)[:, mask].mean(1))
    torch.testing.assert_close(target.value(LOGITS + 7), target.value(LOGITS))
    with pytest.raises(ValueError, match="at least two classes"):
        margin((1, 3, 4), 0, mask)


def test_class_map_keeps_the_mask_of_the_logits_it_was_made_at():
    logits = LOGITS[:1]
    index = int(logits[0, :, 0, 0].argmax())
    target = class_map(logits, index)
    mask = logits[0].argmax(0) == index
    assert torch.equal(target.weights[index].bool(), mask)
    # Other logits with other winners do not move the mask.
    torch.testing.assert_close(target.value(-logits), -logits[:, index, mask].sum(1))
    assert target.weights.sum() == mask.sum()


def test_a_target_does_not_follow_the_tensor_it_was_made_from():
    values = torch.ones(SHAPE)
    target = weights(values, "all")
    values.zero_()
    assert target.value(LOGITS)[0].item() == pytest.approx(LOGITS[0].sum().item(), rel=1e-5)


def test_value_is_differentiable_with_the_weights_as_gradient():
    logits = LOGITS.clone().requires_grad_()
    target = region(SHAPE, 4, torch.ones(3, 4, dtype=torch.bool), mean=True)
    target.value(logits).sum().backward()
    torch.testing.assert_close(logits.grad, target.weights.float().expand_as(logits))


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: pixel(SHAPE, 5, 0, 0), ValueError, r"no class 5: .* 0\.\.4"),
        (lambda: pixel(SHAPE, -1, 0, 0), ValueError, "no class -1"),
        (lambda: pixel((3, 3, 4), "Sky", 0, 0), ValueError, "no class 'Sky'.*Road, Road Marks, Vegetation"),
        (lambda: pixel(SHAPE, 0, 3, 0), IndexError, r"\(3, 0\) is outside .* 3 rows and 4 columns"),
        (lambda: pixel(SHAPE, 0, 0, -1), IndexError, "outside"),
        (lambda: region(SHAPE, 0, torch.zeros(3, 4, dtype=torch.bool)), ValueError, "mask for class Road is empty"),
        (lambda: region(SHAPE, 0, torch.ones(3, 4)), ValueError, "must be boolean"),
        (lambda: region(SHAPE, 0, torch.ones(4, 3, dtype=torch.bool)), ValueError, r"shape \(3, 4\), got .*\(4, 3\)"),
        (lambda: class_map(torch.eye(5)[0][:, None, None].expand(SHAPE), "Sky"), ValueError, "Sky is empty"),
        (lambda: weights(torch.zeros(SHAPE)), ValueError, "nothing to explain"),
        (lambda: weights(torch.full(SHAPE, torch.inf)), ValueError, "finite"),
        (lambda: Target(torch.ones(3, 4), "flat"), ValueError, r"'flat': weights must be \(classes, h, w\)"),
        (lambda: pixel(SHAPE, 0, 0, 0).value(LOGITS[0]), ValueError, r"\(n, 5, 3, 4\), got \(5, 3, 4\)"),
        (lambda: pixel(SHAPE, 0, 0, 0).value(LOGITS[..., :2]), ValueError, "this image's logits shape"),
        (lambda: one_image(LOGITS, "logits"), ValueError, r"logits must be those of one image"),
    ],
)
def test_bad_input_is_named(make, error, message):
    with pytest.raises(error, match=message):
        make()


def test_channels_beyond_the_five_classes_go_by_number():
    assert pixel((6, 3, 4), 5, 0, 0).name == "class 5 at (0, 0)"

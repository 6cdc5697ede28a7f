"""The losses: formulas written out, the contract of a loss, and what others got wrong."""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import AbstractContextManager

import pytest
import segmentation_models_pytorch as smp
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from segkit.errors import ConfigError, LabelError, ModelError
from segkit.metric.confusion import ConfusionMatrix
from segkit.metric.scores import class_score
from segkit_losses import softmax
from segkit_losses.cross_entropy import CrossEntropy, Focal, Ohem
from segkit_losses.lovasz import Lovasz
from segkit_losses.region import Dice, DiceCrossEntropy, Tversky

VOID = 255
WEIGHTS = [0.2, 3.0, 1.0, 0.7]
ALL: dict[str, Callable[[int], nn.Module]] = {
    "cross_entropy": CrossEntropy,
    "weighted_cross_entropy": lambda classes: CrossEntropy(classes, class_weights=WEIGHTS[:classes]),
    "smooth_cross_entropy": lambda classes: CrossEntropy(classes, class_weights=WEIGHTS[:classes], label_smoothing=0.1),
    "focal": Focal,
    "weighted_focal": lambda classes: Focal(classes, class_weights=WEIGHTS[:classes], gamma=0.5),
    "dice": Dice,
    "dice_without_background": lambda classes: Dice(classes, include_background=False, smooth=1.0),
    "dice_cross_entropy": DiceCrossEntropy,
    "weighted_dice_cross_entropy": lambda classes: DiceCrossEntropy(
        classes, class_weights=WEIGHTS[:classes], include_background=False
    ),
    "tversky": Tversky,
    "focal_tversky": lambda classes: Tversky(classes, gamma=4 / 3, include_background=False),
    "lovasz": Lovasz,
    "lovasz_without_background": lambda classes: Lovasz(classes, include_background=False),
    "ohem": Ohem,
    "weighted_ohem": lambda classes: Ohem(classes, threshold=0.0, least=0.3, class_weights=WEIGHTS[:classes]),
}


@pytest.fixture(params=ALL.values(), ids=ALL.keys())
def make(request: pytest.FixtureRequest) -> Callable[[int], nn.Module]:
    return request.param


def batch(classes: int = 4, size: int = 6, seed: int = 0, dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor]:
    """Random logits and a target with every class and a quarter void."""
    generator = torch.Generator().manual_seed(seed)
    logits = 3 * torch.randn(2, classes, size, size + 1, generator=generator, dtype=torch.float64)
    target = torch.randint(0, classes, (2, size, size + 1), generator=generator)
    target[:, :, :2] = VOID
    return logits.to(dtype), target


def constant_and_target() -> tuple[Tensor, Tensor]:
    """Background everywhere, as logits; a target of 21 classes, 75 % of it background."""
    target = torch.zeros(80, 80, dtype=torch.uint8)
    target[60:] = (torch.arange(1600) % 20 + 1).reshape(20, 80)
    logits = torch.zeros(1, 21, 80, 80)
    logits[:, 0] = 100
    return logits, target[None]


def one_hot(target: Tensor, classes: int) -> Tensor:
    return F.one_hot(target.long(), classes).permute(0, 3, 1, 2).float()


# --- formulas, pixel by pixel, in float64


def labelled_pixels(logits: Tensor, target: Tensor) -> list[tuple[list[float], int]]:
    """(softmax, label) of each labelled pixel."""
    pixels = []
    rows = logits.double().permute(0, 2, 3, 1).flatten(0, 2)
    for scores, label in zip(rows, target.flatten(), strict=True):
        if label != VOID:
            exps = [math.exp(float(score - scores.max())) for score in scores]
            pixels.append(([each / sum(exps) for each in exps], int(label)))
    return pixels


@pytest.mark.parametrize("gamma", [0.0, 0.5, 2.0])
def test_focal_is_its_formula(gamma: float) -> None:
    logits, target = batch()
    above = below = 0.0
    for p, label in labelled_pixels(logits, target):
        above += WEIGHTS[label] * (1 - p[label]) ** gamma * -math.log(p[label])
        below += WEIGHTS[label]
    loss = Focal(4, VOID, gamma=gamma, class_weights=WEIGHTS)(logits, target)
    assert loss.item() == pytest.approx(above / below, rel=1e-6)


@pytest.mark.parametrize("smooth", [0.0, 1.0])
@pytest.mark.parametrize("background", [True, False])
def test_dice_is_its_formula_over_the_classes_that_are_there(smooth: float, background: bool) -> None:
    logits, target = batch()
    target[target == 2] = 1  # class 2 is absent
    pixels = labelled_pixels(logits, target)
    costs = []
    for index in [0, 1, 3] if background else [1, 3]:
        overlap = sum(p[index] for p, label in pixels if label == index)
        total = sum(p[index] for p, _ in pixels) + sum(label == index for _, label in pixels)
        costs.append(1 - (2 * overlap + smooth) / (total + smooth))
    loss = Dice(4, VOID, include_background=background, smooth=smooth)(logits, target)
    assert loss.item() == pytest.approx(sum(costs) / len(costs), rel=1e-6)


@pytest.mark.parametrize("background", [True, False])
@pytest.mark.parametrize(("alpha", "beta", "gamma"), [(0.3, 0.7, 1.0), (1.0, 1.0, 1.0), (0.0, 2.0, 4 / 3)])
def test_tversky_is_its_formula_over_the_classes_that_are_there(
    alpha: float, beta: float, gamma: float, background: bool
) -> None:
    logits, target = batch()
    target[target == 2] = 1  # class 2 is absent
    pixels = labelled_pixels(logits, target)
    costs = []
    for index in [0, 1, 3] if background else [1, 3]:
        hits = sum(p[index] for p, label in pixels if label == index)
        too_much = sum(p[index] for p, label in pixels if label != index)
        missed = sum(1 - p[index] for p, label in pixels if label == index)
        tversky_index = hits / (hits + alpha * too_much + beta * missed)
        costs.append((1 - tversky_index) ** (1 / gamma))
    loss = Tversky(4, VOID, alpha, beta, gamma, background)(logits, target)
    assert loss.item() == pytest.approx(sum(costs) / len(costs), rel=1e-6)


@pytest.mark.parametrize("background", [True, False])
def test_lovasz_is_its_definition_over_the_classes_that_are_there(background: bool) -> None:
    logits, target = batch()
    target[target == 2] = 1  # class 2 is absent
    pixels = labelled_pixels(logits, target)
    costs = []
    for index in [0, 1, 3] if background else [1, 3]:
        own = {place for place, (_, label) in enumerate(pixels) if label == index}
        errors = [1 - p[index] if label == index else p[index] for p, label in pixels]
        wrong: set[int] = set()  # the pixels of the largest errors, one more at a time
        cost = before = 0.0
        for place in sorted(range(len(pixels)), key=errors.__getitem__, reverse=True):
            wrong.add(place)
            loss_of_iou = 1 - len(own - wrong) / len(own | wrong)
            cost += errors[place] * (loss_of_iou - before)
            before = loss_of_iou
        costs.append(cost)
    loss = Lovasz(4, VOID, include_background=background)(logits, target)
    assert loss.item() == pytest.approx(sum(costs) / len(costs), rel=1e-6)


def test_lovasz_of_a_prediction_without_doubt_is_1_minus_the_iou() -> None:
    target = batch()[1]
    logits = 200 * one_hot(batch(seed=1)[1] % 4, 4)
    confusion = ConfusionMatrix(4, VOID)
    confusion.update(logits, target)
    mean_iou = class_score("mean_iou", confusion.compute()).mean().item()
    assert 0.1 < mean_iou < 0.5
    assert Lovasz(4, VOID)(logits, target).item() == pytest.approx(1 - mean_iou, abs=1e-6)


def test_ohem_keeps_the_pixels_below_the_threshold_and_a_least_share_of_them() -> None:
    p = torch.tensor([0.99, 0.6, 0.95, 0.8, 0.9, 0.01, 0.02, 0.03])  # of class 0; the last three are void
    logits = torch.stack([p, 1 - p]).log().reshape(1, 2, 2, 4)
    target = torch.tensor([0, 0, 0, 0, 0, VOID, VOID, VOID], dtype=torch.uint8).reshape(1, 2, 4)

    def kept(*probabilities: float) -> float:
        return pytest.approx(-sum(map(math.log, probabilities)) / len(probabilities), rel=1e-5)

    assert Ohem(2, threshold=0.7)(logits, target).item() == kept(0.6)
    assert Ohem(2, threshold=0.85)(logits, target).item() == kept(0.6, 0.8)
    assert Ohem(2, threshold=0.7, least=0.3)(logits, target).item() == kept(0.6, 0.8)  # 2 of the 5 labelled
    assert Ohem(2, threshold=0.0, least=0.6)(logits, target).item() == kept(0.6, 0.8, 0.9)
    assert Ohem(2, threshold=0.0, least=1.0)(logits, target).item() == kept(0.6, 0.8, 0.9, 0.95, 0.99)
    (gradient,) = torch.autograd.grad(Ohem(2, threshold=0.85)(logits.requires_grad_(), target), logits)
    assert gradient[0, 0].ne(0).tolist() == [[False, True, False, True], [False] * 4]


@pytest.mark.parametrize(("threshold", "least"), [(0.7, 1 / 16), (0.1, 0.5), (0.3, 0.01)])
def test_ohem_is_its_formula(threshold: float, least: float) -> None:
    logits, target = batch()
    pixels = sorted(labelled_pixels(logits, target), key=lambda pixel: pixel[0][pixel[1]])
    number = max(math.ceil(least * len(pixels)), sum(p[label] < threshold for p, label in pixels))
    assert number < len(pixels)
    above = sum(WEIGHTS[label] * -math.log(p[label]) for p, label in pixels[:number])
    loss = Ohem(4, VOID, threshold, least, class_weights=WEIGHTS)(logits, target)
    assert loss.item() == pytest.approx(above / sum(WEIGHTS[label] for _, label in pixels[:number]), rel=1e-6)


# --- beside one another and other libraries


@pytest.mark.parametrize("weights", [None, WEIGHTS])
def test_ohem_of_all_pixels_is_exactly_cross_entropy(weights: list[float] | None) -> None:
    logits, target = batch()
    expected = CrossEntropy(4, VOID, class_weights=weights)(logits, target)
    assert torch.equal(Ohem(4, VOID, least=1.0, class_weights=weights)(logits, target), expected)


@pytest.mark.parametrize("background", [True, False])
def test_tversky_of_two_halves_is_dice(background: bool) -> None:
    logits, target = batch()
    target[target == 2] = 1
    ours, theirs = (logits.clone().requires_grad_() for _ in range(2))
    loss = Tversky(4, VOID, alpha=0.5, beta=0.5, include_background=background)(ours, target)
    expected = Dice(4, VOID, include_background=background)(theirs, target)
    torch.testing.assert_close(loss, expected)
    torch.testing.assert_close(*(torch.autograd.grad(*pair)[0] for pair in ((loss, ours), (expected, theirs))))


def test_lovasz_and_its_gradient_are_those_of_segmentation_models_pytorch() -> None:
    logits, target = batch()
    target[target == 2] = 1
    ours, theirs = (logits.clone().requires_grad_() for _ in range(2))
    loss = Lovasz(4, VOID)(ours, target)
    expected = smp.losses.LovaszLoss("multiclass", ignore_index=VOID)(theirs, target)
    torch.testing.assert_close(loss, expected)
    torch.testing.assert_close(*(torch.autograd.grad(*pair)[0] for pair in ((loss, ours), (expected, theirs))))


def test_tversky_is_that_of_segmentation_models_pytorch_where_every_class_is_there() -> None:
    logits, target = batch()
    theirs = smp.losses.TverskyLoss("multiclass", ignore_index=VOID, alpha=0.3, beta=0.7)
    torch.testing.assert_close(Tversky(4, VOID)(logits, target), theirs(logits, target))


@pytest.mark.parametrize("smoothing", [0.0, 0.1, 1.0])
@pytest.mark.parametrize("weights", [None, WEIGHTS, [0.0, 1.0, 1.0, 2.0]])
def test_cross_entropy_and_its_gradient_are_torchs(weights: list[float] | None, smoothing: float) -> None:
    logits, target = batch()
    ours, theirs = (logits.clone().requires_grad_() for _ in range(2))
    loss = CrossEntropy(4, VOID, weights, smoothing)(ours, target)
    tensor = None if weights is None else torch.tensor(weights)
    expected = F.cross_entropy(theirs, target, tensor, ignore_index=VOID, label_smoothing=smoothing)
    torch.testing.assert_close(loss, expected)
    torch.testing.assert_close(*(torch.autograd.grad(*pair)[0] for pair in ((loss, ours), (expected, theirs))))


@pytest.mark.parametrize("weights", [None, WEIGHTS])
def test_focal_with_gamma_0_is_exactly_cross_entropy(weights: list[float] | None) -> None:
    # segmentation-models-pytorch's multiclass focal with gamma 0 is a mean of binary cross-entropies instead
    logits, target = batch()
    logits[0, :, 2, 3] = torch.tensor([200.0, 0.0, 0.0, 0.0])  # p is exactly 1 here
    target[0, 2, 3] = 0
    ours, theirs = (logits.clone().requires_grad_() for _ in range(2))
    loss = Focal(4, VOID, gamma=0.0, class_weights=weights)(ours, target)
    expected = CrossEntropy(4, VOID, class_weights=weights)(theirs, target)
    assert torch.equal(loss, expected)
    assert torch.equal(torch.autograd.grad(loss, ours)[0], torch.autograd.grad(expected, theirs)[0])


def test_focal_takes_p_from_the_softmax_whatever_the_weights() -> None:
    # libraries that take exp(-weighted cross-entropy) for p give 0.71 or the like for a weight of 10
    logits, target = batch()
    everywhere = Focal(4, VOID, class_weights=[10.0] * 4)(logits, target)
    torch.testing.assert_close(everywhere, Focal(4, VOID)(logits, target))


def test_dice_is_that_of_segmentation_models_pytorch_where_every_class_is_there() -> None:
    # where one is absent that library divides by all classes, so that an absent class counts as perfect
    logits, target = batch()
    theirs = smp.losses.DiceLoss("multiclass", ignore_index=VOID)
    torch.testing.assert_close(Dice(4, VOID)(logits, target), theirs(logits, target))
    target[target == 2] = 1
    torch.testing.assert_close(0.75 * Dice(4, VOID)(logits, target), theirs(logits, target))


# --- what a loss must tell apart


def test_the_constant_predictor_costs_much() -> None:
    logits, target = constant_and_target()
    assert Dice(21, VOID)(logits, target).item() == pytest.approx(1 - 2 * 0.75 / 1.75 / 21, abs=1e-6)  # 0.96
    assert Dice(21, VOID, include_background=False)(logits, target).item() == pytest.approx(1, abs=1e-6)
    assert CrossEntropy(21, VOID)(logits, target).item() == pytest.approx(25, abs=1e-4)
    assert Focal(21, VOID)(logits, target).item() == pytest.approx(25, abs=1e-4)
    assert Ohem(21, VOID)(logits, target).item() == pytest.approx(100, abs=1e-4)  # the wrong quarter alone
    assert Lovasz(21, VOID)(logits, target).item() == pytest.approx((0.25 + 20) / 21, abs=1e-6)  # 0.96
    background = 1 - 0.75 / (0.75 + 0.3 * 0.25)
    assert Tversky(21, VOID)(logits, target).item() == pytest.approx((background + 20) / 21, abs=1e-6)  # 0.96


@pytest.mark.parametrize("classes", [2, 4])
@pytest.mark.parametrize("name", sorted(ALL.keys() - {"smooth_cross_entropy"}))
def test_a_perfect_prediction_costs_nothing(name: str, classes: int) -> None:
    target = batch(classes)[1].clamp(max=classes - 1)
    assert abs(ALL[name](classes)(100 * one_hot(target, classes), target).item()) < 1e-6


def test_zeros_and_ones_as_logits_are_not_a_perfect_prediction() -> None:
    _, target = batch(4)
    target = target % 4
    # the softmax of one 1 among zeros is e / (e + C - 1): 0.12 with 21 classes
    assert Focal(21)(one_hot(target, 21), target).item() == pytest.approx(1.6455, abs=1e-4)
    # an observed 0.78 is that of 12 classes with alpha = 0.75 on a plain mean; ours divides by the weights
    assert 0.75 * Focal(12)(one_hot(target, 12), target).item() == pytest.approx(0.78, abs=1e-3)
    assert Focal(21)(100 * one_hot(target, 21), target).item() == 0


# --- void


@pytest.mark.fault("F24")
def test_void_has_no_value_and_no_gradient(make: Callable[[int], nn.Module]) -> None:
    logits, target = batch()
    logits.requires_grad_()
    loss = make(4)(logits, target)
    (gradient,) = torch.autograd.grad(loss, logits)
    void = (target == VOID)[:, None].expand_as(logits)
    assert torch.all(gradient[void] == 0)
    assert torch.all(gradient[~void].abs().sum() > 0)
    other = torch.where(void, -50 * logits.detach(), logits.detach())
    assert torch.equal(make(4)(other, target), loss.detach())


@pytest.mark.parametrize("extreme", [-math.inf, math.inf, math.nan, "float16"])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_infinite_logits_at_void_contribute_nothing(
    make: Callable[[int], nn.Module], extreme: float | str, layout: torch.memory_format
) -> None:
    logits, target = batch()
    void = (target == VOID)[:, None]
    logits = logits.to(torch.float16).to(torch.float32)
    expected = torch.where(void, 0.0, logits).requires_grad_()
    if extreme == "float16":
        given = torch.where(void, -1e5 * logits, logits).to(torch.float16)  # infinities of both signs
    else:
        given = torch.where(void, extreme, logits)
    given = given.contiguous(memory_format=layout).requires_grad_()
    losses = make(4)(given, target), make(4)(expected, target)
    torch.testing.assert_close(*losses)
    for loss in losses:
        loss.backward()
    assert given.grad is not None
    assert not given.grad.masked_select(void).count_nonzero()  # NaN is not 0
    torch.testing.assert_close(
        given.grad.float(), expected.grad, atol=1e-3 if extreme == "float16" else 1e-6, rtol=1e-3
    )


def test_an_overflow_at_a_void_pixel_alone_costs_what_the_other_pixel_does() -> None:
    logits = torch.tensor([[0.0, 0.0], [0.0, -math.inf]]).view(1, 2, 1, 2).requires_grad_()  # class, pixel
    for loss in (CrossEntropy(2), Focal(2, gamma=0.0), Ohem(2)):
        (gradient,) = torch.autograd.grad(value := loss(logits, torch.tensor([[[0, VOID]]])), logits)
        assert value.item() == pytest.approx(math.log(2))
        assert gradient.flatten().tolist() == [-0.5, 0, 0.5, 0]


def test_a_class_that_is_ruled_out_costs_nothing_where_it_is_not_there(make: Callable[[int], nn.Module]) -> None:
    logits, target = batch()
    target = torch.where(target == 3, 0, target)
    ruled_out = logits.clone()
    logits[:, 3], ruled_out[:, 3] = -1e4, -math.inf
    if getattr(make(4), "label_smoothing", 0):
        return  # smoothing gives every class some of the target
    losses = [make(4)(each.requires_grad_(), target) for each in (logits, ruled_out)]
    torch.testing.assert_close(*losses)
    gradients = [torch.autograd.grad(loss, each)[0] for loss, each in zip(losses, (logits, ruled_out), strict=True)]
    torch.testing.assert_close(*gradients)


@pytest.mark.parametrize("shape", [(0, 4, 4, 4), (2, 4, 0, 4), (2, 4, 4, 0)])
def test_an_empty_batch_costs_0_and_goes_backward(make: Callable[[int], nn.Module], shape: tuple[int, ...]) -> None:
    logits = torch.zeros(shape, requires_grad=True)
    loss = make(4)(logits, torch.zeros(shape[0], *shape[2:], dtype=torch.uint8))
    loss.backward()
    assert loss.item() == 0
    assert logits.grad is not None


def test_void_counts_as_little_as_pixels_that_are_not_there(make: Callable[[int], nn.Module]) -> None:
    logits, target = batch()
    logits = logits.round().requires_grad_()  # with ties between void and other pixels
    cut = logits.detach()[..., 2:].clone().requires_grad_()  # the first two columns are void
    loss, expected = make(4)(logits, target), make(4)(cut, target[..., 2:])
    torch.testing.assert_close(loss, expected)
    torch.testing.assert_close(torch.autograd.grad(loss, logits)[0][..., 2:], torch.autograd.grad(expected, cut)[0])


@pytest.mark.fault("F24")
def test_a_batch_of_void_costs_0_and_has_a_gradient_of_0(make: Callable[[int], nn.Module]) -> None:
    logits = batch()[0].requires_grad_()
    loss = make(4)(logits, torch.full((2, 6, 7), VOID, dtype=torch.uint8))
    assert loss.item() == 0
    (gradient,) = torch.autograd.grad(2.0**16 * loss, logits)  # scaled as by a GradScaler
    assert torch.all(gradient == 0)


@pytest.mark.parametrize("make_loss", [CrossEntropy, Focal, Ohem])
def test_a_batch_of_classes_that_weigh_0_costs_0(make_loss: type[CrossEntropy | Focal | Ohem]) -> None:
    loss = make_loss(4, VOID, class_weights=[1.0, 0.0, 1.0, 1.0])
    logits = batch()[0].requires_grad_()
    value = loss(logits, torch.ones(2, 6, 7, dtype=torch.int64))
    value.backward()
    assert value.item() == 0
    assert torch.all(logits.grad == 0)


def test_smoothing_costs_0_where_all_classes_weigh_0() -> None:
    loss = CrossEntropy(4, VOID, class_weights=[1.0, 0.0, 1.0, 1.0], label_smoothing=0.1)
    assert loss(batch()[0], torch.ones(2, 6, 7, dtype=torch.int64)).item() == 0


@pytest.mark.parametrize("ignore_index", [-100, 4, 0])
def test_any_label_can_be_void(make: Callable[[int], nn.Module], ignore_index: int) -> None:
    logits, target = batch()
    target[target == 0] = VOID
    expected = make(4)(logits, target)
    loss = make(4)
    loss.ignore_index = ignore_index
    assert torch.equal(loss(logits, torch.where(target == VOID, ignore_index, target)), expected)


@pytest.mark.parametrize("make_loss", [Dice, Tversky, Lovasz])
def test_a_background_alone_is_nothing_to_a_loss_without_background(
    make_loss: type[Dice | Tversky | Lovasz],
) -> None:
    assert make_loss(4, include_background=False)(batch()[0], torch.zeros(2, 6, 7, dtype=torch.uint8)).item() == 0


# --- numbers


@pytest.mark.fault("F30")
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_summed_in_float32(make: Callable[[int], nn.Module], dtype: torch.dtype) -> None:
    # 512 x 512 = 262,144 is more than float16 can hold, so sums of it are inf there
    logits = torch.zeros(1, 4, 512, 512, dtype=dtype)
    logits[:, 1, :, ::3] = 1
    target = torch.arange(512 * 512, dtype=torch.uint8).remainder(4).reshape(1, 512, 512)
    loss = make(4)(logits.requires_grad_(), target)
    assert loss.dtype == torch.float32
    assert loss.item() == pytest.approx(make(4)(logits.detach().double(), target).item(), rel=1e-5)
    loss.backward()
    assert logits.grad is not None
    assert logits.grad.dtype == dtype
    assert torch.all(logits.grad.isfinite())


def test_autocast_changes_nothing(make: Callable[[int], nn.Module]) -> None:
    logits, target = batch(dtype=torch.bfloat16)
    with torch.autocast("cpu", torch.bfloat16):
        loss = make(4)(logits, target)
    assert loss.dtype == torch.float32
    assert torch.equal(loss, make(4)(logits.float(), target))


@pytest.mark.fault("F30")
@pytest.mark.parametrize(
    ("make_loss", "expected"), [(Dice, 1 - 2 * 0.1 / 1.1), (Tversky, 1 - 0.1 / (0.1 + 0.7 * 0.9)), (Lovasz, 0.9)]
)
def test_millions_of_pixels_lose_no_digits(make_loss: type[Dice | Tversky | Lovasz], expected: float) -> None:
    # one running float32 sum stalls: at 2,000,000 adding 0.1 changes nothing
    logits = torch.zeros(1, 2, 2048, 2048)
    logits[:, 0] = math.log(0.1 / 0.9)
    target = torch.zeros(1, 2048, 2048, dtype=torch.uint8)
    assert make_loss(2)(logits, target).item() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("size", [1e4, 1e30])
def test_extreme_logits_are_finite(make: Callable[[int], nn.Module], size: float) -> None:
    logits, target = batch()
    logits = (size * logits.sign()).requires_grad_()
    loss = make(4)(logits, target)
    loss.backward()
    assert loss.isfinite()
    assert torch.all(logits.grad.isfinite())


@pytest.mark.parametrize("gamma", [0.25, 0.5, 1.0, 2.0])
def test_focal_has_a_gradient_where_p_is_1(gamma: float) -> None:
    _, target = batch()
    target = target % 4
    logits = (200 * one_hot(target, 4)).requires_grad_()
    Focal(4, gamma=gamma)(logits, target).backward()
    assert torch.all(logits.grad == 0)


@pytest.mark.parametrize("gamma", [1.0, 4 / 3, 3.0])
def test_focal_tversky_has_a_gradient_where_nothing_is_wrong(gamma: float) -> None:
    _, target = batch()
    target = target % 4
    logits = (200 * one_hot(target, 4)).requires_grad_()
    Tversky(4, gamma=gamma)(logits, target).backward()
    assert torch.all(logits.grad == 0)


def test_a_slope_of_lovasz_keeps_its_digits_among_many_pixels() -> None:
    # the authors' code takes the difference of two float32 near 1, 6e-8 apart at best: here every slope is 1e-6
    logits = torch.zeros(1, 2, 1000, 1000, requires_grad=True)
    (gradient,) = torch.autograd.grad(Lovasz(2)(logits, torch.zeros(1, 1000, 1000, dtype=torch.uint8)), logits)
    torch.testing.assert_close(gradient[:, 0], torch.full((1, 1000, 1000), -0.25e-6), rtol=1e-5, atol=0)


def test_gradients_agree_with_finite_differences(make: Callable[[int], nn.Module]) -> None:
    logits, target = batch(size=2, dtype=torch.float64)
    assert torch.autograd.gradcheck(lambda each: make(4)(each, target), logits.requires_grad_())


# --- how it is called


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int32, torch.int64])
def test_inputs_of_any_layout_and_type_of_integer_are_left_as_they_are(
    make: Callable[[int], nn.Module], dtype: torch.dtype
) -> None:
    logits, target = batch()
    expected = make(4)(logits, target)
    given = logits.contiguous(memory_format=torch.channels_last), target.to(dtype)
    copies = [each.clone() for each in given]
    torch.testing.assert_close(make(4)(*given), expected)
    assert all(torch.equal(*pair) for pair in zip(given, copies, strict=True))


def test_one_graph_when_compiled(make: Callable[[int], nn.Module]) -> None:
    torch.compiler.reset()
    compiled = torch.compile(make(4), fullgraph=True, backend="aot_eager")  # a host sync would break the graph
    logits, target = batch()
    torch.testing.assert_close(compiled(logits, target), make(4)(logits, target))


def test_deterministic_algorithms_suffice(make: Callable[[int], nn.Module]) -> None:
    logits, target = batch()
    torch.use_deterministic_algorithms(True)
    try:
        make(4)(logits.requires_grad_(), target).backward()
    finally:
        torch.use_deterministic_algorithms(False)
    assert logits.grad is not None
    assert logits.grad.isfinite().all()


@pytest.mark.gpu
def test_nothing_waits_for_the_device(
    make: Callable[[int], nn.Module], no_waiting: Callable[[], AbstractContextManager[None]]
) -> None:
    logits, target = (each.cuda() for each in batch())
    loss = make(4).cuda()
    expected = make(4)(*batch())
    with no_waiting():
        value = loss(logits.requires_grad_(), target)
        value.backward()
    torch.testing.assert_close(value.cpu(), expected)


def test_weights_follow_the_module_and_stay_out_of_checkpoints() -> None:
    loss = CrossEntropy(4, class_weights=WEIGHTS)
    assert loss.state_dict() == {}
    assert loss.to("meta").class_weights.is_meta


# --- mistakes


def test_a_label_that_does_not_exist_is_never_dropped(make: Callable[[int], nn.Module]) -> None:
    logits, target = batch()
    target[0, 3, 3:5] = 200
    logits[0, 3, 3, 3:5] = 50  # certain of the last class, so that it looks right to what clips labels
    with pytest.raises(LabelError, match=r"^2 pixels hold labels that do not exist; allowed are 0\.\.3 and 255 \(void"):
        make(4)(logits, target)
    # where looking at the values is not allowed, as on CUDA, the step must be seen to be bad
    torch.compiler.reset()
    compiled = torch.compile(make(4), fullgraph=True, backend="aot_eager")
    assert compiled(logits, target).isnan()
    for label in (200, -1):  # also where nothing but background is labelled
        assert compiled(logits, torch.where(target == 200, label, VOID)).isnan()
        assert compiled(logits, torch.where(target == 200, label, 0)).isnan()


def test_wrong_shapes_say_what_is_wanted(make: Callable[[int], nn.Module]) -> None:
    logits, target = batch()
    with pytest.raises(ModelError, match=r"logits are \[2, 4, 6, 7\]; for 3 classes they must be \[B,3,H,W\]"):
        make(3)(logits, target)
    with pytest.raises(ModelError, match=r"logits are \[2, 4, 42\]"):
        make(4)(logits.flatten(2), target)
    with pytest.raises(LabelError, match=r"the target is \[2, 7, 6\]; .* it must be \[2, 6, 7\].*never the mask"):
        make(4)(logits, target.mT)
    with pytest.raises(LabelError, match="not one-hot"):
        make(4)(logits, one_hot(target % 4, 4))
    with pytest.raises(LabelError, match=r"is torch\.float32; labels must be integers"):
        make(4)(logits, target.float())


@pytest.mark.parametrize(
    ("make_loss", "message"),
    [
        (lambda: CrossEntropy(4, class_weights=[1.0, 2.0]), "class_weights has 2 numbers for 4 classes"),
        (lambda: Focal(2, class_weights=[1.0, -2.0]), r"class_weights holds -2\.0; allowed are finite numbers"),
        (lambda: Focal(2, class_weights=[1.0, math.inf]), "class_weights holds inf"),
        (lambda: CrossEntropy(4, class_weights="inverse"), 'class_weights = "inverse": only a config can name'),
        (lambda: CrossEntropy(4, label_smoothing=1.5), r"label_smoothing = 1\.5; allowed is 0 to 1"),
        (lambda: Focal(4, gamma=-1.0), r"gamma = -1\.0; allowed are"),
        (lambda: Dice(4, smooth=-1.0), r"smooth = -1\.0; allowed are"),
        (lambda: Dice(4, smooth=math.nan), "smooth = nan"),
        (lambda: Tversky(4, alpha=-0.1), r"alpha = -0\.1; allowed are finite numbers of 0 or more"),
        (lambda: Tversky(4, beta=0.0), r"beta = 0\.0; allowed are finite numbers above 0"),
        (lambda: Tversky(4, gamma=math.inf), "gamma = inf; allowed are finite numbers above 0"),
        (lambda: Ohem(4, threshold=1.1), r"threshold = 1\.1; allowed is 0 to 1"),
        (lambda: Ohem(4, least=0.0), r"least = 0\.0; allowed is a share above 0, up to 1"),
        (lambda: Ohem(4, class_weights=[1.0, 2.0]), "class_weights has 2 numbers for 4 classes"),
    ],
)
def test_wrong_options_say_what_is_allowed(make_loss: Callable[[], nn.Module], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        make_loss()


def test_dice_and_cross_entropy_together_are_their_sum() -> None:
    logits, target = batch(dtype=torch.float64)
    options = {"class_weights": WEIGHTS, "label_smoothing": 0.1}
    both = DiceCrossEntropy(4, include_background=False, **options)
    parts = (Dice(4, include_background=False), CrossEntropy(4, **options))
    one, two = (logits.clone().requires_grad_() for _ in range(2))
    together, apart = both(one, target), parts[0](two, target) + parts[1](two, target)
    together.backward()
    apart.backward()
    torch.testing.assert_close(together, apart)
    torch.testing.assert_close(one.grad, two.grad)


@pytest.mark.parametrize(
    ("layout", "vector"), [(torch.contiguous_format, 16), (torch.channels_last, 16), (torch.channels_last, 4)]
)
@pytest.mark.parametrize("block", [1, 7, 100, 10_000])
def test_the_size_of_the_blocks_and_their_layout_change_nothing(
    monkeypatch: pytest.MonkeyPatch, layout: torch.memory_format, vector: int, block: int
) -> None:
    logits, target = batch(dtype=torch.float64)
    loss = DiceCrossEntropy(4, label_smoothing=0.1)
    whole, blocks = (logits.clone(memory_format=each).requires_grad_() for each in (torch.contiguous_format, layout))
    expected = loss(whole, target)
    expected.backward()
    monkeypatch.setattr(softmax, "CPU_BLOCK", block)
    monkeypatch.setattr(softmax, "CPU_VECTOR", vector)  # rows of 4 classes as they are, or turned into columns
    found = loss(blocks, target)
    found.backward()
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(blocks.grad, whole.grad)
    assert blocks.grad is not None
    assert blocks.grad.is_contiguous(memory_format=layout)

"""The confusion matrix: what it counts, what it leaves out, and what it refuses."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager

import pytest
import torch
import torch.nn.functional as F
from sklearn.metrics import confusion_matrix
from torch import Tensor

from segkit.errors import LabelError, ModelError
from segkit.metric.confusion import ConfusionMatrix

VOID = 255


def logits_of(prediction: Tensor, classes: int) -> Tensor:
    return F.one_hot(prediction.long(), classes).movedim(-1, 1).float()


def random_batch(classes: int = 5, seed: int = 0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(2, classes, 16, 20, generator=generator)
    target = torch.randint(0, classes, (2, 16, 20), generator=generator, dtype=torch.uint8)
    target[torch.rand(2, 16, 20, generator=generator) < 0.2] = VOID
    return logits, target


def test_rows_are_the_truth_and_columns_the_prediction() -> None:
    matrix = ConfusionMatrix(3, VOID)
    matrix.update(logits_of(torch.tensor([[[0, 1, 1, 2]]]), 3), torch.tensor([[[0, 0, 0, VOID]]]))
    assert matrix.compute().tolist() == [[1, 2, 0], [0, 0, 0], [0, 0, 0]]


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("dtype", [torch.uint8, torch.int64])
def test_it_is_scikit_learns_over_all_batches(memory_format: torch.memory_format, dtype: torch.dtype) -> None:
    matrix = ConfusionMatrix(5, VOID)
    truth, predicted = [], []
    for seed in range(3):
        logits, target = random_batch(seed=seed)
        matrix.update(logits.contiguous(memory_format=memory_format), target.to(dtype))
        truth.append(target[target != VOID])
        predicted.append(logits.argmax(1)[target != VOID])
    expected = confusion_matrix(torch.cat(truth), torch.cat(predicted), labels=range(5))
    assert matrix.compute().tolist() == expected.tolist()


@pytest.mark.parametrize("ignore_index", [0, 5, -1])
def test_any_label_can_be_void(ignore_index: int) -> None:
    logits, target = random_batch()
    target[target == 0] = VOID
    expected, matrix = ConfusionMatrix(5, VOID), ConfusionMatrix(5, ignore_index)
    expected.update(logits, target)
    matrix.update(logits, torch.where(target == VOID, ignore_index, target.long()))
    assert torch.equal(matrix.compute(), expected.compute())


def test_inputs_are_left_as_they_are() -> None:
    logits, target = random_batch()
    target = target.long()
    copies = logits.clone(), target.clone()
    ConfusionMatrix(5, VOID).update(logits, target)
    assert torch.equal(logits, copies[0])
    assert torch.equal(target, copies[1])


@pytest.mark.parametrize("label", [5, 200, -3])
def test_a_label_that_does_not_exist_is_an_error_and_never_dropped(label: int) -> None:
    matrix = ConfusionMatrix(5, VOID)
    logits, target = random_batch()
    target = target.long()
    target[0, 0, :3] = label
    matrix.update(logits, target)  # must not wait for the device, so says nothing yet
    with pytest.raises(LabelError, match=r"^3 pixels hold labels .*allowed are 0\.\.4 and 255 \(void\)"):
        matrix.compute()
    matrix.reset()
    matrix.update(*random_batch())
    matrix.compute()


def test_wrong_shapes_are_refused() -> None:
    logits, target = random_batch()
    with pytest.raises(ModelError, match=r"logits are \[2, 5, 16, 20\]; for 4 classes"):
        ConfusionMatrix(4, VOID).update(logits, target)
    with pytest.raises(LabelError, match=r"the target is \[2, 8, 20\]"):
        ConfusionMatrix(5, VOID).update(logits, target[:, :8])


def test_parts_add_up_and_reset_forgets() -> None:
    whole, *parts = (ConfusionMatrix(5, VOID) for _ in range(3))
    for seed, part in enumerate(parts):
        whole.update(*random_batch(seed=seed))
        part.update(*random_batch(seed=seed))
    parts[0].merge(parts[1])
    assert torch.equal(parts[0].compute(), whole.compute())
    whole.reset()
    assert whole.compute().sum() == 0


def test_an_evaluation_in_inference_mode_can_be_continued_outside() -> None:
    matrix = ConfusionMatrix(5, VOID)
    with torch.inference_mode():
        matrix.update(*random_batch())
    matrix.update(*random_batch())
    matrix.reset()
    assert matrix.compute().sum() == 0


def test_the_result_does_not_change_with_later_batches() -> None:
    matrix = ConfusionMatrix(5, VOID)
    before = matrix.compute()
    matrix.update(*random_batch())
    assert before.sum() == 0


@pytest.mark.parametrize("classes", [2, 21, 253, 254, 255])
@pytest.mark.parametrize("void", [255, -100])
def test_labels_of_one_byte_count_as_those_of_eight(classes: int, void: int) -> None:
    logits, target = torch.randn(2, classes, 20, 30), torch.randint(0, 256, (2, 20, 30))
    small, large = ConfusionMatrix(classes, void), ConfusionMatrix(classes, void)
    small.update(logits, target.to(torch.uint8))
    large.update(logits, target)
    assert torch.equal(small.counts, large.counts)


@pytest.mark.gpu
def test_cuda_is_never_waited_for(no_waiting: Callable[[], AbstractContextManager[None]]) -> None:
    logits, target = (each.cuda() for each in random_batch())
    matrix, on_cpu = ConfusionMatrix(5, VOID), ConfusionMatrix(5, VOID)
    matrix.update(logits, target)
    with no_waiting():
        matrix.update(logits, target)
    on_cpu.update(*random_batch())
    on_cpu.update(*random_batch())
    assert torch.equal(matrix.compute(), on_cpu.compute())

"""``init`` looks at a folder as an expert would: what it recognises, what it asks, and that its config runs."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from segkit.errors import LabelError
from segkit_init.findings import StoredLabels
from segkit_init.labels import questions_of, stored_labels
from segkit_init.plan import Facts, plan
from segkit_init.text import value_text

RGB = np.array([(128, 64, 128), (70, 70, 70), (0, 0, 142)], np.uint8)  # the colour of each of three labels
Labels = np.ndarray[Any, np.dtype[np.uint8]]


def scene(number: int, classes: int = 3) -> tuple[Labels, Labels]:
    """A picture ``[48,64,3]`` and its labels ``[48,64]``; each class but the first is a rectangle of its own colour."""
    random = np.random.default_rng(number)
    labels = np.zeros((48, 64), np.uint8)
    for label in range(1, classes):
        top, left = random.integers(2, 26), random.integers(2, 20) + 22 * (label - 1)
        labels[top : top + 18, left : left + 16] = label
    light = np.kron(random.integers(-60, 60, (6, 8, 3)), np.ones((8, 8, 1)))  # [48,64,3]
    colours = np.array([(90, 110, 90), (200, 60, 60), (60, 60, 200)])
    return np.clip(colours[labels] + light, 0, 255).astype(np.uint8), labels


def save(pixels: Any, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


# ---- what stored labels mean ----


def masks(*values: int, count: int = 6) -> list[Labels]:
    return [np.array(values, np.uint8)[scene(number, len(values))[1]] for number in range(count)]


def options(stored: StoredLabels, names: tuple[str, ...] = ()) -> list[dict[str, Any]]:
    """Of each answer to the one question about the labels."""
    (question,) = questions_of(stored, names)
    assert question.must is (len(question.answers) > 1)
    return [dict(answer.options) for answer in question.answers]


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ((0, 1), {"classes": ["background", "foreground"]}),
        ((0, 255), {"classes": ["background", "foreground"], "value_map": {"0": 0, "255": 1}}),
        ((0, 1, 2), {"classes": ["class_0", "class_1", "class_2"]}),
        ((0, 1, 255), {"classes": ["background", "foreground"]}),  # 255 is void where nothing else is said
        ((1, 2, 3), {"classes": ["class_0", "class_1", "class_2"], "value_map": {"1": 0, "2": 1, "3": 2}}),
        ((7, 26, 255), {"classes": ["background", "foreground"], "value_map": {"7": 0, "26": 1, "255": 255}}),
    ],
)
def test_labels_that_can_be_read_in_one_way(values: tuple[int, ...], expected: dict[str, Any]) -> None:
    assert options(stored_labels(masks(*values))) == [expected]


def test_greys_that_are_spread_to_be_seen_may_hold_void() -> None:
    first, second = options(stored_labels(masks(0, 128, 255)))
    assert first["value_map"] == {"0": 0, "128": 1, "255": 2}
    assert second["value_map"] == {"0": 0, "128": 1, "255": 255}


def test_a_label_along_the_borders_may_be_void_or_a_class() -> None:
    drawn = []
    for number in range(6):
        labels = scene(number)[1]
        padded = np.pad(labels, 2, mode="edge")
        shifted = [padded[y : y + 48, x : x + 64] for y in range(5) for x in range(5)]
        drawn.append(np.where(np.any([each != labels for each in shifted], axis=0), 3, labels).astype(np.uint8))
    assert stored_labels(drawn).edges == {3}
    assert stored_labels(masks(0, 1, 2)).edges == frozenset()
    first, second = options(stored_labels(drawn))
    assert first == {"classes": ["class_0", "class_1", "class_2"], "void": [3]}
    assert second["classes"] == ["class_0", "class_1", "class_2", "class_3"]


def test_ids_of_objects_are_asked_about() -> None:
    rows = np.arange(48, dtype=np.uint8)[:, None].repeat(64, axis=1)  # [48,64]
    counted = stored_labels(np.minimum(rows // 6, number) for number in range(1, 7))
    first, second = options(counted)
    assert first["classes"] == ["background", "object"]
    assert first["value_map"] == {"0": 0, **{str(number): 1 for number in range(1, 7)}}
    assert len(second["classes"]) == 7
    cityscapes = stored_labels(
        np.array([7, 26000 + number, 24000 + number], np.uint16)[scene(number)[1]] for number in range(6)
    )
    first, _ = options(cityscapes)
    assert len(first["classes"]) == 3
    assert (first["value_map"]["7"], first["value_map"]["24003"], first["value_map"]["26005"]) == (0, 1, 2)
    many = stored_labels(
        (np.arange(48 * 64).reshape(48, 64) // 10 + 400 * number).astype(np.uint16) for number in (1, 9)
    )
    with pytest.raises(LabelError, match=r"616 labels, up to 3907, .* export the class of each pixel"):
        questions_of(many)


def test_colours_become_a_map_and_the_cream_of_voc_is_void() -> None:
    counted = [{(128, 64, 128): 90, (0, 0, 0): 60, (224, 224, 192): 5}, {(0, 0, 0): 10, (128, 64, 128): 1}]
    assert options(stored_labels(counted)) == [
        {
            "classes": ["background", "foreground"],
            "colour_map": {"background": [0, 0, 0], "foreground": [128, 64, 128], "void": [224, 224, 192]},
        }
    ]


def test_one_name_less_than_labels_asks_what_0_is() -> None:
    first, second = options(stored_labels(masks(0, 1, 2)), ("cat", "dog"))
    assert first == {"classes": ["background", "cat", "dog"]}
    assert second == {"classes": ["cat", "dog"], "value_map": {"1": 0, "2": 1, "0": 255}}


# ---- what is proposed ----


def test_forty_photographs_on_a_laptop_and_on_a_card() -> None:
    facts = Facts([(3000, 4000)] * 28, 3, True, [0.95, 0.04, 0.01])
    laptop = {key: choice.value for key, choice in plan(facts).items()}
    assert laptop == {
        "data.resize": 0.13,
        "augment.crop": 256,
        "train.batch_size": 4,
        "model.width": 16,
        "train.repeat": 4,
        "train.epochs": 36,
        "loss.class_weights": "sqrt_median_frequency",
        "augment.class_balanced": 0.33,
        "augment.colour": 0.3,
    }
    card = {key: choice.value for key, choice in plan(Facts(*list(vars(facts).values())[:4], card=24 << 30)).items()}
    assert (card["augment.crop"], card["train.batch_size"], card["model.width"], card["data.resize"]) == (
        512,
        16,
        64,
        0.26,
    )


def test_small_tiles_of_twelve_bands_are_taken_whole_and_without_jitter_of_colours() -> None:
    chosen = {key: choice.value for key, choice in plan(Facts([(128, 128)] * 56, 12, False, [0.5, 0.5])).items()}
    assert (chosen["data.resize"], chosen["augment.crop"], chosen["augment.colour"]) == (None, None, None)
    assert (chosen["loss.class_weights"], chosen["train.batch_size"]) == (None, 8)


def test_values_are_written_as_toml_reads_them() -> None:
    value = {"a b": [0, 1.5, True], 'q"\\': "ü", "255": {"x": "C:\\data"}}
    assert tomllib.loads(f"value = {value_text(value)}")["value"] == value

"""A split by fractions never changes and never loses an image."""

from __future__ import annotations

import random
import unicodedata

import pytest

from segkit.errors import ConfigError, DataError
from segkit_folder.splits import split_by_fraction, split_called, split_in

KEYS = [f"image_{index}" for index in range(100)]
USUAL = (0.7, 0.15, 0.15)


def test_parts_are_disjoint_exhaustive_and_of_the_wanted_size() -> None:
    parts = split_by_fraction(KEYS, USUAL, seed=0)
    assert {name: len(part) for name, part in parts.items()} == {"train": 70, "val": 15, "test": 15}
    assert sorted(parts["train"] + parts["val"] + parts["test"]) == sorted(KEYS)


def test_the_split_is_the_same_for_ever() -> None:
    assert split_by_fraction([*"abcdefghij"], USUAL, seed=0) == {
        "train": ["b", "c", "e", "f", "g", "j"],
        "val": ["d", "i"],
        "test": ["a", "h"],
    }


def test_the_order_of_the_keys_does_not_matter_but_the_seed_does() -> None:
    shuffled = KEYS.copy()
    random.Random(1).shuffle(shuffled)
    assert split_by_fraction(shuffled, USUAL, seed=3) == split_by_fraction(KEYS, USUAL, seed=3)
    assert split_by_fraction(KEYS, USUAL, seed=4) != split_by_fraction(KEYS, USUAL, seed=3)


@pytest.mark.fault("F52")
def test_the_form_in_which_a_file_system_stores_names_does_not_matter() -> None:
    composed = [f"Gew\u00e4sser_{number}" for number in range(10)]
    decomposed = [unicodedata.normalize("NFD", key) for key in composed]
    first, second = (split_by_fraction(keys, USUAL, seed=0) for keys in (composed, decomposed[::-1]))
    assert second == {name: [unicodedata.normalize("NFD", key) for key in part] for name, part in first.items()}
    with pytest.raises(DataError, match="2 names: only 1 of them differ"):
        split_by_fraction([composed[0], decomposed[0]], USUAL, seed=0)


def test_a_name_that_is_no_valid_text_is_dealt_too() -> None:
    assert sum(map(len, split_by_fraction(["a\udcff", "b", "c"], USUAL, seed=0).values())) == 3


@pytest.mark.parametrize("count", range(3, 30))
@pytest.mark.parametrize("fractions", [USUAL, (0.98, 0.01, 0.01), (0.01, 0.01, 0.98), (1 / 3, 1 / 3, 1 / 3)])
def test_no_part_is_empty(count: int, fractions: tuple[float, ...]) -> None:
    parts = split_by_fraction(KEYS[:count], fractions, seed=0)
    assert min(len(part) for part in parts.values()) >= 1
    assert sum(len(part) for part in parts.values()) == count


def test_two_fractions_make_two_parts_and_zero_an_empty_one() -> None:
    assert {name: len(part) for name, part in split_by_fraction(KEYS, (0.8, 0.2), 0).items()} == {
        "train": 80,
        "val": 20,
    }
    assert split_by_fraction(KEYS, (0.8, 0.2, 0), 0)["test"] == []
    assert len(split_by_fraction(["one"], (1, 0, 0), 0)["train"]) == 1


@pytest.mark.parametrize(
    "fractions", [(0.7, 0.2, 0.2), (1.0,), (0.25,) * 4, (1.2, -0.2), (70, 15, 15), (float("nan"), 1)]
)
def test_fractions_that_are_none(fractions: tuple[float, ...]) -> None:
    with pytest.raises(ConfigError, match=r"fractions = \[.*that sum to 1"):
        split_by_fraction(KEYS, fractions, 0)


def test_too_few_or_repeated_keys() -> None:
    with pytest.raises(DataError, match="cannot split 2 images into 3 parts"):
        split_by_fraction(["a", "b"], USUAL, 0)
    with pytest.raises(DataError, match="3 names: only 2 of them differ"):
        split_by_fraction(["a", "b", "a"], USUAL, 0)


@pytest.mark.parametrize("form", ["NFC", "NFD"])
@pytest.mark.parametrize(
    "names",
    [
        ("Trainingsdaten", "Validierung", "Testdaten"),
        ("training", "eval", "test"),
        ("apprentissage", "validation", "essai"),
        ("Entraînement", "Validación", "pruebas"),
        ("treino", "VALIDACAO", "teste"),
        ("обучение", "валидация", "Тест"),
        ("treningowe", "walidacyjne", "testowe"),
        ("Eğitim", "Doğrulama", "Test"),
        ("训练集", "验证集", "测试集"),
        ("学習データ", "検証用データ", "テスト"),
        ("훈련", "검증", "테스트"),
    ],
)
def test_splits_are_known_by_their_names_in_other_languages(names: tuple[str, ...], form: str) -> None:
    names = tuple(unicodedata.normalize(form, name) for name in names)  # type: ignore[arg-type]
    assert [*map(split_called, names)] == ["train", "val", "test"]
    assert [*map(split_in, names)] == ["train", "val", "test"]
    assert [split_in(f"{name} 2") for name in names] == ["train", "val", "test"]


@pytest.mark.parametrize("name", ["протест", "機械学習", "provas", "Contest", "détest"])
def test_words_that_hold_the_name_of_a_split_are_none(name: str) -> None:
    assert (split_called(name), split_in(name)) == (None, None)

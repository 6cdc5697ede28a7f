"""Names of splits, Unicode normalisation of file names, reading text files, and random splits by fractions or folds."""

from __future__ import annotations

import hashlib
import math
import re
import stat
import unicodedata
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from segkit.data.read import suffixes
from segkit.data.sample import SPLITS
from segkit.errors import ConfigError, DataError, did_you_mean, first_few, reason

CONTAINERS = (".npz", ".mat", ".h5", ".hdf5", ".nii", ".gz")
"""File types that hold several named arrays, such as ``x.npz#image``, or several slices."""
TABLES = (".txt", ".csv")
"""File types that may hold a mask as a text table of labels."""
SUFFIXES = tuple(each for each in suffixes() if each not in CONTAINERS)
SEVERAL = (".tif", ".tiff", ".npy", ".dcm", *CONTAINERS)  # may hold several pictures
_WORDS = {  # English, German and Dutch, French, Spanish, Italian, Portuguese, Swedish and Danish, Polish, Turkish,
    # Russian, Chinese, Japanese, Korean
    "train": "train training trn trainings apprentissage entraînement entrenamiento addestramento treinamento treino "
    "träning træning trening treningowe treningowy uczące eğitim обучение обучающая тренировка тренировочная "
    "训练 訓練 学習 훈련 학습",
    "val": "val valid validation dev eval evaluation validierung validierungs validatie validación validazione "
    "convalida validação validering walidacja walidacyjne walidacyjny doğrulama валидация валидационная "
    "验证 驗證 検証 검증",
    "test": "test testing holdout essai essais prueba pruebas prova teste testowe testowy тест тестовая "
    "测试 測試 テスト 테스트",
}


def _forms(word: str) -> tuple[str, ...]:
    """Return a word as it is, in Unicode form NFD (as macOS stores names), and without accents."""
    apart = unicodedata.normalize("NFD", word)
    return word, apart, re.sub("[\u0300-\u036f]", "", apart)


SPLIT_NAMES = {
    split: tuple(dict.fromkeys(form for word in words.split() for form in _forms(word)))
    for split, words in _WORDS.items()
}
"""The names that are recognised for each split; case is ignored."""
_SPLIT_OF = {name: split for split, names in SPLIT_NAMES.items() for name in names}
SPLIT_WORDS = "|".join(sorted(_SPLIT_OF, key=len, reverse=True))
_ENDINGS = ("daten", "datensatz", "集", "数据", "数据集", "データ", "セット", "데이터", "용데이터", "세트")
_ENDING = rf"(?:用?(?:{'|'.join(form for word in _ENDINGS for form in _forms(word))})|20\d\d)?"
ANY_SPLIT = rf"(?:{SPLIT_WORDS}){_ENDING}"
"""Regular expression for the name of a split, optionally with an ending: ``val2017``, ``Testdaten``."""
TRAIN_AND_VAL = r"train[-_+ ]?val(?:id|idation)?"
"""Regular expression for a combined split such as ``trainval``; it counts as train if there is no separate train."""
SECOND_NAME = re.compile(rf"(?i){TRAIN_AND_VAL}|eval(uation)?")
"""Names that are not read beside a plainer name of the same split: ``trainval`` beside ``train``."""
SPLIT_IN_A_NAME = re.compile(
    rf"(?:(?<![^\W_])|(?<=[a-z])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z]))(?i:{TRAIN_AND_VAL}|{ANY_SPLIT})"
    r"(?:(?![^\W\d_])|(?<=[a-z])(?=[A-Z])|(?=(?i:data|set|annot|mask|label|image|img))"
    r"|(?<=[\u3040-\ud7a3]))"  # CJK words need no spaces
)
"""Regular expression for the name of a split beside other words: ``Training Images``, ``TrainData``, ``data_val``."""
SPLIT_WORD = re.compile(rf"(?i)(?<![^\W_])(?:{ANY_SPLIT})(?![^\W\d_])")
"""The same for names of files, in which ``TrainIds`` has no split."""


def split_called(name: str) -> str | None:
    """Return train, val or test for any of their names, train for names such as ``trainval``, else None."""
    match = re.fullmatch(f"({SPLIT_WORDS}){_ENDING}", name.casefold())
    return "train" if is_train_and_val(name) else _SPLIT_OF[match[1]] if match else None


def is_train_and_val(name: str) -> bool:
    """Whether the name means train and val together, such as ``trainval`` or ``train_val``."""
    return re.fullmatch(TRAIN_AND_VAL, name, re.IGNORECASE) is not None


def split_in(name: str) -> str | None:
    """Return the split that a name or path mentions last, or None: train for ``Training Images``."""
    found = SPLIT_IN_A_NAME.findall(name)
    return split_called(found[-1]) if found else None


MAX_TEXT_BYTES = 16 << 20
"""Enough for half a million names of 32 letters; a larger file is no list of names, or is an endless device."""


def composed(name: str) -> str:
    """Return a name in Unicode form NFC, the form in which names are compared, sorted and hashed.

    File systems store the same name in different forms: macOS, and archives made on it, write an umlaut as two
    characters. The same folder must give the same split on every system.
    """
    return unicodedata.normalize("NFC", name)


def read_text(path: Path) -> str:
    """Return the text of a UTF-8 file, or of a UTF-16 file that begins with a byte order mark (as Windows writes it).

    Raises:
        DataError: the path is no regular file, the file is larger than 16 MiB, or it is not text.
    """
    try:
        if not stat.S_ISREG(path.stat().st_mode):  # opening a pipe would block forever
            raise DataError(f"{path} is no regular file")
        with path.open("rb") as file:
            content = file.read(MAX_TEXT_BYTES + 1)
        if len(content) > MAX_TEXT_BYTES:
            raise DataError(f"{path} is larger than {MAX_TEXT_BYTES:,} bytes; a list of names is not")
        is_utf_16 = content[:2] in (b"\xff\xfe", b"\xfe\xff") and b"\0" in content
        return content.decode("utf-16" if is_utf_16 else "utf-8-sig")
    except UnicodeDecodeError as error:
        place = content.count(b"\n", 0, error.start) + 1
        raise DataError(f"{path} cannot be read as text: line {place} is not UTF-8; save it as UTF-8") from None
    except (OSError, ValueError) as error:  # ValueError: not UTF-16, or a zero byte in the name
        raise DataError(f"{path} cannot be read as text: {reason(error)}") from error


class TooFewError(DataError):
    """There are fewer images, or groups of them, than splits."""


def split_by_fraction(
    keys: Sequence[str], fractions: Sequence[float], seed: int, what: str = "images"
) -> dict[str, list[str]]:
    """Distribute ``keys`` over train, val and test in the order of SHA-256("seed/key").

    The result does not depend on the order of ``keys``, on the Unicode form in which a file system stores them (they
    are hashed and sorted as :func:`composed` returns them), or on the version of Python or NumPy. A split whose
    fraction is not 0 gets at least one key.

    Args:
        keys: unique names of images, or of groups of images that must stay in one split, such as those of one car.
        fractions: two (train, val) or three (train, val, test) numbers that sum to 1.
        seed: a different seed gives a different split.
        what: the word for the keys in messages.

    Returns:
        The sorted keys of each split, one split per fraction.

    Raises:
        ConfigError: the fractions are not two or three numbers that sum to 1.
        TooFewError: there are fewer keys than splits.
        DataError: a key occurs twice.
    """
    check_fractions(fractions)
    distinct = {composed(key) for key in keys}
    if len(distinct) != len(keys):
        raise DataError(f"cannot split {len(keys)} names: only {len(distinct)} of them differ")
    wanted = [fraction > 0 for fraction in fractions]
    if len(keys) < sum(wanted):
        raise TooFewError(
            f"cannot split {len(keys)} {what} into {sum(wanted)} parts without an empty one; "
            f"label more (start with about 20), or set a fraction to 0"
        )

    ordered, sizes = _shuffled(keys, seed), _sizes(len(keys), fractions)
    starts = [sum(sizes[:part]) for part in range(len(sizes))]
    return {
        name: sorted(ordered[start : start + size], key=composed)
        for name, start, size in zip(SPLITS, starts, sizes, strict=False)  # two fractions make no test split
    }


def split_into_folds(keys: Sequence[str], folds: int, seed: int) -> list[list[str]]:
    """Distribute ``keys`` over folds whose sizes differ by at most one, in the order of :func:`split_by_fraction`.

    Raises:
        DataError: there are fewer keys than folds.
    """
    if len(keys) < folds:
        raise DataError(f"cannot divide {len(keys)} into {folds} folds without an empty one; set `folds` to fewer")
    ordered = _shuffled(keys, seed)
    return [sorted(ordered[fold::folds], key=composed) for fold in range(folds)]


def _shuffled(keys: Sequence[str], seed: int) -> list[str]:
    """Return the keys in the order of their hashes, which depends only on the names and the seed."""

    def digest(key: str) -> bytes:
        return hashlib.sha256(f"{seed}/{composed(key)}".encode(errors="surrogateescape")).digest()  # for invalid UTF-8

    return sorted(keys, key=digest)


def check_fractions(fractions: Any) -> None:
    """Check that ``fractions`` is a valid division into train, val and optionally test.

    Raises:
        ConfigError: it is not two or three numbers of 0 or more that sum to 1.
    """
    try:
        right = 2 <= len(fractions) <= 3 and min(fractions) >= 0 and math.isclose(sum(fractions), 1, abs_tol=1e-6)
    except TypeError:  # not a sequence of numbers
        right = False
    if not right:
        given = list(fractions) if isinstance(fractions, tuple) else fractions
        raise ConfigError(
            f"fractions = {given!r}: give two (train, val) or three (train, val, test) numbers that sum to 1"
        )


def require_split(split: str, splits: Sequence[str], place: object, advice: str = "") -> None:
    """Check that a data set has the split.

    Raises:
        DataError: it does not; the message lists the splits that exist.
    """
    if split not in splits:
        there = ", ".join(splits) or "none"
        raise DataError(f"no split '{split}' in {place}; there are {there}{did_you_mean(split, splits)}{advice}")


def _sizes(total: int, fractions: Sequence[float]) -> list[int]:
    """Return whole numbers near ``total * fraction`` that sum to ``total``; at least 1 where the fraction is not 0."""
    sizes = [max(round(total * fraction), fraction > 0) for fraction in fractions]
    while sum(sizes) != total:  # the largest part absorbs the rounding error
        sizes[sizes.index(max(sizes))] += 1 if sum(sizes) < total else -1
    return sizes


def by_suffix(counted: Counter[str]) -> str:
    """Format counts by file suffix as ``12 .jp2, 1 .txt``."""
    return first_few([f"{count} {suffix or 'without an ending'}" for suffix, count in counted.most_common()], 8)

"""Faults of many files: told once, refused together, or gathered."""

from __future__ import annotations

from collections.abc import Iterable

import pytest

from segkit.errors import DataError, Issue, gathered, merged, refuse
from segkit_folder.splits import split_by_fraction


def messages(issues: Iterable[Issue]) -> list[str]:
    return [*map(str, merged(issues))]


def lossy(*names: str, **options: str) -> list[Issue]:
    return [
        Issue("lossy_mask", f"/data/masks/{name}", "the mask is a JPEG", "export it as PNG", **options)
        for name in names
    ]


def test_one_fault_is_told_as_it_is() -> None:
    assert messages(lossy("a.png")) == ["/data/masks/a.png: the mask is a JPEG; export it as PNG"]
    assert messages([]) == []


def test_the_same_fault_is_told_once_with_its_number_and_the_first_five_names() -> None:
    assert messages(lossy(*(f"{index}.png" for index in range(300)))) == [
        "300 files: the mask is a JPEG: /data/masks/0.png, /data/masks/1.png, /data/masks/2.png, "
        "/data/masks/3.png, /data/masks/4.png and 295 more; export it as PNG"
    ]


def test_a_file_counts_once_however_often_it_was_found() -> None:
    (group,) = merged(lossy("a.png", "b.png", "a.png"))
    assert list(group.files) == ["/data/masks/a.png", "/data/masks/b.png"]


def test_kind_and_words_make_a_group() -> None:
    faults = [
        *lossy("a.png"),
        Issue("lossy_mask", "b.webp", "the mask is a lossy WebP"),
        Issue("empty", "c.png", "empty"),
    ]
    assert [(group.kind, len(group.files)) for group in merged([*faults, *lossy("d.png")])] == [
        ("lossy_mask", 2),
        ("lossy_mask", 1),
        ("empty", 1),
    ]


def test_a_detail_that_all_share_is_told_once_and_others_behind_their_names() -> None:
    same = messages(lossy("a.png", "b.png", detail="named .png"))
    assert same == ["2 files: the mask is a JPEG (named .png): /data/masks/a.png, /data/masks/b.png; export it as PNG"]
    (found,) = messages([*lossy("a.png", detail="one"), *lossy("b.png", detail="two"), *lossy("c.png")])
    named = "/data/masks/a.png (one), /data/masks/b.png (two), /data/masks/c.png"
    assert found == f"3 files: the mask is a JPEG: {named}; export it as PNG"
    names = [Issue("empty", name, "empty") for name in ("scene 1", "scene 2")]
    assert messages(names) == ["2 files: empty: scene 1, scene 2"]


def test_what_is_wrong_is_summed_over_the_files() -> None:
    faults = [
        Issue(
            "values",
            "/m/a.png",
            "labels that are not allowed",
            "fix",
            "x",
            {200: 1000, 17: 5},
            {0: 1, 200: 1000, 17: 5},
        ),
        Issue("values", "/m/b.png", "labels that are not allowed", "fix", "y", {200: 234}, {1: 4, 200: 234}),
    ]
    summed = "labels that are not allowed, 200 (1,234 pixels in 2 of them), 17 (5 pixels in 1 of them)"
    assert messages(faults) == [f"2 files: {summed}: /m/a.png, /m/b.png; fix"]
    colours = [Issue("unknown_colours", f"{name}.png", "unknown", wrong={(9, 8, 7): 2}) for name in "ab"]
    assert messages(colours) == ["2 files: unknown, (9, 8, 7) (4 pixels in 2 of them): a.png, b.png"]


def test_faults_are_refused_together() -> None:
    refuse([])
    with pytest.raises(DataError) as caught:
        refuse([*lossy("a.png", "b.png"), Issue("empty", "c.png", "empty")])
    assert str(caught.value).splitlines()[1] == "c.png: empty"
    assert caught.value.issue is None
    with pytest.raises(DataError) as caught:
        refuse(lossy("a.png"))
    assert caught.value.issue == lossy("a.png")[0]


def test_faults_are_gathered_instead_and_only_inside() -> None:
    with gathered() as outer:
        refuse(lossy("a.png"))
        with gathered() as inner:
            refuse(lossy("b.png"))
        refuse(lossy("c.png"))
    assert [fault.file for fault in outer] == ["/data/masks/a.png", "/data/masks/c.png"]
    assert inner == lossy("b.png")
    with pytest.raises(DataError):
        refuse(lossy("a.png"))


def build(faults: list[Issue]) -> None:
    """As a dataset of which nothing is left to be split."""
    refuse(faults)
    split_by_fraction([], (0.5, 0.5), seed=0)


def test_what_was_gathered_is_told_where_the_dataset_cannot_go_on() -> None:
    with pytest.raises(DataError, match=r"^cannot split 0 images"), gathered():
        build([])
    with pytest.raises(DataError, match=r"PNG$"), gathered():  # that there are too few names follows from it
        build(lossy("a.png"))
    with pytest.raises(DataError, match=r"PNG$"):  # and no list is left behind
        build(lossy("a.png"))

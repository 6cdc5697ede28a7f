"""Pairing files by name: what belongs together, and every file that has no partner."""

from __future__ import annotations

import unicodedata
from pathlib import Path

import pytest

from segkit.errors import DataError, gathered
from segkit_folder.pairs import pair_by_stem


def empty(folder: Path, *names: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        (folder / name).touch()
    return folder


def test_pairs_are_in_natural_order_and_other_files_are_messages(tmp_path: Path) -> None:
    images = empty(tmp_path / "images", "10.jpg", "9.JPG", "1.jpeg", "Thumbs.db", ".DS_Store", "._9.jpg", "notes.txt")
    masks = empty(tmp_path / "masks", "10.png", "9.png", "1.png", ".hidden.png")
    message = (
        "not read: 1 of 4 files in .*images, which are no images that are read: 1 .txt; read are .jpg, .jpeg, .png"
    )
    with pytest.warns(UserWarning, match=message):
        pairs = pair_by_stem(images, masks)
    assert [image.name for image, _ in pairs] == ["1.jpeg", "9.JPG", "10.jpg"]
    assert [mask.name for _, mask in pairs] == ["1.png", "9.png", "10.png"]


def test_a_mask_suffix_also_tells_masks_apart_in_one_folder(tmp_path: Path) -> None:
    images, masks = empty(tmp_path / "images", "a.jpg"), empty(tmp_path / "masks", "a_mask.gif")
    assert [mask.name for _, mask in pair_by_stem(images, masks, "_mask")] == ["a_mask.gif"]
    both = empty(tmp_path / "both", "a.png", "a_mask.png", "b.png", "b_mask.png")
    assert [(image.name, mask.name) for image, mask in pair_by_stem(both, both, "_mask")] == [
        ("a.png", "a_mask.png"),
        ("b.png", "b_mask.png"),
    ]
    with pytest.raises(DataError, match="set mask_suffix, or patterns, to tell them apart"):
        pair_by_stem(both, both)


def test_composed_and_decomposed_umlauts_are_the_same_name(tmp_path: Path) -> None:
    images, masks = empty(tmp_path / "images", "u\u0308ber.jpg"), empty(tmp_path / "masks", "\u00fcber.png")
    assert len(pair_by_stem(images, masks)) == 1


@pytest.mark.fault("F52")
def test_neither_the_order_of_listing_nor_the_form_of_the_names_changes_the_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = ["a1", "a01", "a001", "A1", "\u00e4", "\u00e4b", "az", "\u00e410", "\u00e49"]
    found = []
    for form in ("NFC", "NFD"):
        stored = [unicodedata.normalize(form, name) for name in names]
        images = empty(tmp_path / form / "images", *(f"{name}.jpg" for name in stored))
        masks = empty(tmp_path / form / "masks", *(f"{name}_m\u00e4.png" for name in stored))
        for order in (sorted, lambda paths: sorted(paths)[::-1]):
            listing = Path.iterdir
            with monkeypatch.context() as patch:
                patch.setattr(Path, "iterdir", lambda self, o=order, listing=listing: iter(o(listing(self))))
                pairs = pair_by_stem(images, masks, "_ma\u0308")
            found.append([unicodedata.normalize("NFC", image.stem) for image, _ in pairs])
    assert found == [["A1", "a001", "a01", "a1", "az", "\u00e49", "\u00e410", "\u00e4", "\u00e4b"]] * 4


@pytest.mark.fault("F28")
def test_files_without_partner_are_counted_and_the_first_five_listed(tmp_path: Path) -> None:
    images = empty(tmp_path / "images", *(f"{index}.jpg" for index in range(9)))
    masks = empty(tmp_path / "masks", "0.png", "1.png", "extra.png")
    with pytest.raises(DataError) as caught:
        pair_by_stem(images, masks)
    without_mask, without_image = str(caught.value).splitlines()
    named = ", ".join(str(images / f"{number}.jpg") for number in range(2, 7))
    listed = f"{named} and 2 more; the mask would be {masks / '2.png'}"
    assert without_mask == f"7 files: image without a mask: {listed}"
    assert without_image == f"{masks / 'extra.png'}: mask without an image; add the image or remove it"


@pytest.mark.fault("F28")
def test_names_that_differ_in_case_say_so(tmp_path: Path) -> None:
    images, masks = empty(tmp_path / "images", "cat.jpg"), empty(tmp_path / "masks", "Cat.PNG")
    message = r"cat\.jpg: the name of the mask differs in upper and lower case \(Cat\.PNG\); rename"
    with pytest.raises(DataError, match=message) as caught:
        pair_by_stem(images, masks)
    assert caught.value.issue is not None
    assert caught.value.issue.kind == "different_case"
    assert "without" not in str(caught.value)
    (masks / "Cat.PNG").rename(masks / "cat_Mask.png")
    with pytest.raises(DataError, match=r"cat\.jpg: .* upper and lower case \(cat_Mask\.png\)"):
        pair_by_stem(images, masks, "_mask")


@pytest.mark.fault("F28")
def test_repeated_names_are_refused(tmp_path: Path) -> None:
    images = empty(tmp_path / "images", "cat.jpg", "cat.png", "dog.jpg")
    masks = empty(tmp_path / "masks", "cat.png", "dog.png")
    message = r"^2 files: another file has the same name, .*: .*/cat\.jpg \(cat\.png\), .*/cat\.png \(cat\.jpg\)"
    with pytest.raises(DataError, match=message) as caught:
        pair_by_stem(images, masks)
    assert "without" not in str(caught.value)  # the mask of the repeated image is not blamed
    both = empty(tmp_path / "both", "\u00e9.png", "e\u0301.png")
    with pytest.raises(DataError, match=r"e\\u0301\.png"):
        pair_by_stem(both, masks)
    empty(masks, "dog.gif", "dog.bmp")
    (images / "cat.png").unlink()
    with pytest.raises(DataError, match=r"^3 files: another .*: .*/masks/dog\.bmp \(dog\.gif, dog\.png\), "):
        pair_by_stem(images, masks)


def test_all_that_is_wrong_is_gathered_and_the_rest_paired(tmp_path: Path) -> None:
    images = empty(tmp_path / "images", "a.jpg", "b.jpg", "c.jpg", "d.jpg", "d.png", "E.jpg")
    masks = empty(tmp_path / "masks", "a.png", "c.png", "d.png", "e.png", "f.png", "g.png", "g.gif")
    with gathered() as faults:
        assert [image.name for image, _ in pair_by_stem(images, masks)] == ["a.jpg", "c.jpg"]
    assert sorted((fault.kind, Path(fault.file).name) for fault in faults) == [
        ("different_case", "E.jpg"),
        ("duplicate_stem", "d.jpg"),
        ("duplicate_stem", "d.png"),
        ("duplicate_stem", "g.gif"),
        ("duplicate_stem", "g.png"),
        ("image_without_mask", "b.jpg"),
        ("mask_without_image", "f.png"),
    ]
    with pytest.raises(DataError) as caught:
        pair_by_stem(images, masks)
    assert len(str(caught.value).splitlines()) == 4  # a line for each kind
    with gathered(), pytest.raises(DataError, match="does not exist"):  # nothing to go on with
        pair_by_stem(images, tmp_path / "nowhere")


@pytest.mark.fault("F28")
def test_missing_and_empty_folders_say_what_is_there(tmp_path: Path) -> None:
    empty(tmp_path / "data" / "pictures")
    with pytest.raises(
        DataError,
        match=r"images does not exist; .*data holds the folders pictures\. Name the folder that is meant",
    ):
        pair_by_stem(tmp_path / "data" / "images", tmp_path / "data" / "masks")
    with pytest.raises(DataError, match=r"does not exist; .*pictures holds no folders"):
        pair_by_stem(tmp_path / "data" / "pictures" / "a" / "b", tmp_path)
    images = empty(tmp_path / "data" / "empty", "a.txt", "b.txt")
    (images / "sub").mkdir()
    with pytest.raises(DataError, match=r"holds no images; .*empty holds the folders sub and 2 \.txt; read are \.jpg"):
        pair_by_stem(images, images / "sub")
    with pytest.raises(DataError, match=r"a\.txt is a file"):
        pair_by_stem(images / "a.txt", images)


def test_images_in_folders_that_are_not_looked_into_are_messages(tmp_path: Path) -> None:
    images, masks = empty(tmp_path / "images", "1.jpg"), empty(tmp_path / "images" / "masks", "1.png")
    empty(images / "__MACOSX", "._1.jpg")
    empty(images / "notes", "1.txt")
    assert len(pair_by_stem(images, masks)) == 1
    more = empty(images / "more", "2.jpg")
    with pytest.warns(UserWarning, match=rf"^not read: {more}; read are the images of {images}$"):
        pair_by_stem(images, masks)
    (images / "1.jpg").unlink()
    with pytest.raises(DataError, match=rf"{images} holds no images; {images} holds the folders .*more"):
        pair_by_stem(images, masks)

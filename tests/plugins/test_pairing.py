"""Pairing files by name: what belongs together, and every file that has no partner."""

from __future__ import annotations

import unicodedata
from pathlib import Path

import pytest

from segkit.data.issues import gathered
from segkit.errors import DataError
from segkit_folder.splits import pair_by_stem


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
    with pytest.raises(DataError, match="mask_suffix must tell them apart"):
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
    listed = f"2.jpg, 3.jpg, 4.jpg, 5.jpg, 6.jpg and 2 more (in {images}); in {masks}, the mask of cat.jpg is cat.png"
    assert without_mask == f"7 files: image without a mask: {listed}; rename, add or remove files"
    assert without_image.startswith(f"{masks / 'extra.png'}: mask without an image; in {images} there is none")


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


def test_a_suffix_that_most_masks_share_is_proposed_with_what_would_still_be_wrong(tmp_path: Path) -> None:
    numbers = range(1, 13)
    images = empty(tmp_path / "images", *(f"{index}.jpg" for index in numbers))
    masks = empty(tmp_path / "masks", *(f"{index}_label.png" for index in numbers if index != 7))
    with pytest.raises(DataError) as caught:
        pair_by_stem(images, masks)
    hint, rest = str(caught.value).splitlines()
    assert hint.startswith('11 files: the name has "_label" more than its image\'s: 1_label.png')
    assert hint.endswith('; set mask_suffix = "_label"')
    assert rest == (
        f"{images / '7.jpg'}: image without a mask; in {masks}, the mask of cat.jpg is cat_label.png; "
        "rename, add or remove files"
    )
    with pytest.raises(DataError) as caught:  # and that is what is wrong with it
        pair_by_stem(images, masks, "_label")
    assert str(caught.value) == rest
    others = empty(tmp_path / "others", "1x.png", "12x.png", "99.png")  # two of twelve are no rule
    with pytest.raises(DataError) as caught:
        pair_by_stem(images, others)
    assert "mask_suffix" not in str(caught.value)


@pytest.mark.parametrize(
    ("suffix", "right"), [("_seg", 'set mask_suffix = "_mask"'), ("_mask_2", 'set mask_suffix = "_mask"')]
)
def test_a_suffix_that_is_wrong_is_corrected(tmp_path: Path, suffix: str, right: str) -> None:
    images, masks = empty(tmp_path / "images", "a.jpg", "b.jpg"), empty(tmp_path / "masks", "a_mask.png", "b_mask.png")
    with pytest.raises(DataError) as caught:
        pair_by_stem(images, masks, suffix)
    assert str(caught.value).endswith(right)
    same = empty(tmp_path / "same", "a.png", "b.png")
    with pytest.raises(
        DataError, match=r"^2 files: the name is its image's, without a suffix: .*; leave mask_suffix out$"
    ):
        pair_by_stem(images, same, suffix)


@pytest.mark.parametrize(("image", "suffix"), [("{}_rgb.png", "_mask"), ("{}x.png", "y"), ("only.png", "_gt")])
def test_a_suffix_is_proposed_whatever_the_images_end_in(tmp_path: Path, image: str, suffix: str) -> None:
    names = {image.format(number) for number in (1, 2, 12)}
    images = empty(tmp_path / "images", *names)
    masks = empty(tmp_path / "masks", *(name.replace(".png", f"{suffix}.png") for name in names))
    with pytest.raises(DataError) as caught:
        pair_by_stem(images, masks)
    assert str(caught.value).endswith(f'set mask_suffix = "{suffix}"')
    assert len(pair_by_stem(images, masks, suffix)) == len(names)


@pytest.mark.fault("F28")
def test_several_masks_of_one_image_are_told_as_such_and_nothing_else(tmp_path: Path) -> None:
    images = empty(tmp_path / "images", "000.jpg", "001.jpg", "01.jpg", "0.jpg")
    masks = empty(tmp_path / "masks", "000_net.png", "000_fish.png", "001_net.png", "001_fish.png", "01.png", "0.png")
    several = (
        "2 files: several masks for one image: 000.jpg (000_fish.png, 000_net.png), 001.jpg (001_fish.png, "
        f"001_net.png) (in {images}); an image has one mask, which holds all its labels: merge them into one, or "
        "move what is of another kind to a folder of its own"
    )
    for suffix in ("", "_net"):
        with gathered() as faults:
            pair_by_stem(images, masks, suffix)
        kinds = {fault.kind for fault in faults}
        assert kinds == (
            {"several_masks"} if not suffix else {"several_masks", "image_without_mask", "mask_without_image"}
        )
    with pytest.raises(DataError) as caught:
        pair_by_stem(images, masks)
    assert str(caught.value) == several
    (masks / "0.png").rename(masks / "0_net.png")
    (masks / "01.png").rename(masks / "01_net.png")
    with gathered() as faults:  # no suffix solves that, so none is proposed
        pair_by_stem(images, masks)
    assert {fault.kind for fault in faults} == {"several_masks", "other_name"}
    for name in ("0", "01"):
        (masks / f"{name}_net.png").rename(masks / f"{name}.png")
    empty(masks, "01_net.png")  # beside the one that the image's name finds
    with gathered() as faults:
        pair_by_stem(images, masks)
    assert [(Path(fault.file).name, fault.detail) for fault in faults][-1] == ("01.jpg", "01.png, 01_net.png")


@pytest.mark.parametrize(
    ("image", "mask", "words", "rename"),
    [
        ("{}.jpg", "mask_{}.png", 'the mask\'s name begins with "mask_"', "mask_021.png to 021.png"),
        (
            "{}_image.png",
            "{}_annotation.png",
            'the image\'s name ends in "_image" and the mask\'s name ends in "_annotation"',
            "021_annotation.png to 021_image.png",
        ),
        (
            "{}_training.tif",
            "{}_manual1.gif",
            'the image\'s name ends in "_training" and the mask\'s name ends in "_manual1"',
            "021_manual1.gif to 021_training.gif",
        ),
        (
            "img-{}.tif",
            "seg-{}-v2.png",
            'the image\'s name begins with "img-" and the mask\'s name begins with "seg-" and the mask\'s name ends in '
            '"-v2"',
            "seg-021-v2.png to img-021.png",
        ),
        (
            "a{}.png",
            "mask{}.png",
            'the image\'s name begins with "a" and the mask\'s name begins with "mask"',
            "mask021.png to a021.png",
        ),
        ("{}_leftImg.png", "{}.png", 'the image\'s name ends in "_leftImg"', "021.png to 021_leftImg.png"),
    ],
)
def test_names_that_differ_by_the_same_parts_say_by_which(
    tmp_path: Path, image: str, mask: str, words: str, rename: str
) -> None:
    images = empty(tmp_path / "images", *(image.format(number) for number in ("021", "022", "030")))
    masks = empty(tmp_path / "masks", *(mask.format(number) for number in ("021", "022", "030")))
    with pytest.raises(DataError) as caught:
        pair_by_stem(images, masks)
    assert str(caught.value).startswith(f"3 files: image and mask are called differently: {words}: ")
    assert str(caught.value).endswith(f"rename the masks, {rename}")
    assert len(str(caught.value).splitlines()) == 1


def test_masks_beside_their_images_are_not_to_be_called_as_these(tmp_path: Path) -> None:
    both = empty(tmp_path / "both", *(f"{number}_{part}.png" for number in (1, 2) for part in ("image", "annotation")))
    with pytest.raises(DataError, match=r"rename the masks, 1_annotation\.png to 1_image_annotation\.png$"):
        pair_by_stem(both, both, "_annotation")


@pytest.mark.fault("F28")
def test_repeated_names_are_refused(tmp_path: Path) -> None:
    images = empty(tmp_path / "images", "cat.jpg", "cat.png", "dog.jpg")
    masks = empty(tmp_path / "masks", "cat.png", "dog.png")
    message = (
        r"^2 files: another file has the same name but for the suffix: cat\.jpg \(cat\.png\), cat\.png \(cat\.jpg\)"
    )
    with pytest.raises(DataError, match=message) as caught:
        pair_by_stem(images, masks)
    assert "without" not in str(caught.value)  # the mask of the repeated image is not blamed
    empty(masks, "dog.gif", "dog.bmp")
    (images / "cat.png").unlink()
    with pytest.raises(DataError, match=r"^3 files: another .*: dog\.bmp \(dog\.gif, dog\.png\), .*in .*masks\)"):
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
    with pytest.raises(DataError, match=r"holds no images, but 2 other files and 1 folders; read are \.jpg"):
        pair_by_stem(images, images / "sub")
    with pytest.raises(DataError, match=r"a\.txt is a file"):
        pair_by_stem(images / "a.txt", images)


def test_images_in_folders_that_are_not_looked_into_are_messages(tmp_path: Path) -> None:
    images, masks = empty(tmp_path / "images", "1.jpg"), empty(tmp_path / "images" / "masks", "1.png")
    empty(images / "__MACOSX", "._1.jpg")
    empty(images / "notes", "1.txt")
    assert len(pair_by_stem(images, masks)) == 1
    more = empty(images / "more", "2.jpg")
    with pytest.warns(UserWarning, match=rf"^not read: images in {more}; read is {images} without its folders$"):
        pair_by_stem(images, masks)
    (images / "1.jpg").unlink()
    with pytest.raises(DataError, match=rf"no images, .* 4 folders; images are in its folders {more}, which are not"):
        pair_by_stem(images, masks)


def test_images_in_folders_and_masks_that_are_not_are_told_so(tmp_path: Path) -> None:
    images, masks = empty(tmp_path / "images" / "train", "1.jpg"), empty(tmp_path / "masks", "1.png")
    with pytest.raises(DataError, match=rf"divided into folders alike: move the files that lie in {masks} there"):
        pair_by_stem(images, masks / "train")

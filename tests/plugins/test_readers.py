"""TIFF of many bands and other numbers, and NumPy's arrays: every value is the one that was written."""

from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image

from segkit.data import read as reading
from segkit.data.read import MAX_PIXELS, read_header, read_picture, suffixes
from segkit.errors import DataError
from segkit_folder.files import PairedFiles
from segkit_folder.masks import check_checksums, read_mask
from segkit_folder.pictures import parts_of
from segkit_readers import several


def read_image(path: str | Path, *how: Any, **more: Any) -> Any:
    return read_picture(path, *how, **more).pixels


tifffile = pytest.importorskip("tifffile")
VALUES = np.random.default_rng(0).integers(0, 250, (40, 56, 12))


def write(path: Path, stored: np.ndarray, **how: Any) -> Path:
    tifffile.imwrite(path, stored, **{"photometric": "minisblack", "planarconfig": "contig", **how})
    return path


def test_labels_of_64_bits_are_read(tmp_path: Path) -> None:
    path = write(tmp_path / "a.tif", (VALUES[..., 0] % 3).astype(np.int64))
    assert (read_mask(path) == VALUES[..., 0] % 3).all()


@pytest.mark.fault("F50")
@pytest.mark.parametrize("dtype", ["u1", "i1", "u2", "i2", "u4", "i4", "f2", "f4", "f8"])
@pytest.mark.parametrize("planar", [False, True])
@pytest.mark.parametrize("how", [{}, {"tile": (16, 16)}, {"rowsperstrip": 7, "compression": "zlib", "byteorder": ">"}])
def test_bands_of_every_kind_come_back_as_they_were_written(
    tmp_path: Path, dtype: str, planar: bool, how: dict[str, Any]
) -> None:
    stored = (VALUES - (100 if dtype[0] != "u" else 0)).astype(dtype)
    written = np.moveaxis(stored, 2, 0) if planar else stored
    path = write(tmp_path / "a.tif", written, planarconfig="separate" if planar else "contig", **how)
    read = read_image(path)
    assert read.dtype == (np.uint8 if dtype == "u1" else np.float32)
    np.testing.assert_array_equal(read, stored.astype(read.dtype))
    header = read_header(path)
    assert (header.size, header.channels[::11]) == ((40, 56), ("band 1", "band 12"))
    np.testing.assert_array_equal(read_image(path, bands=[12, 1]), read[..., [11, 0]])


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_picture_is_read_upright_as_pillow_reads_it(tmp_path: Path, orientation: int) -> None:
    rgb = VALUES[..., :3].astype(np.uint8)
    tag = [(274, "H", 1, orientation, True)]
    pillows = read_image(write(tmp_path / "rgb.tif", rgb, photometric="rgb", extratags=tag))
    ours = write(tmp_path / "bands.tif", VALUES[..., :5].astype(np.uint8), extratags=tag)
    np.testing.assert_array_equal(read_image(ours)[..., :3], pillows)
    assert read_header(ours).size == pillows.shape[:2]


@pytest.mark.fault("F50")
def test_pages_are_bands_where_the_file_says_so_and_refused_elsewhere(tmp_path: Path) -> None:
    pages = np.moveaxis(VALUES[..., :4], 2, 0).astype(np.uint16)
    tifffile.imwrite(tmp_path / "channels.tif", pages, imagej=True, metadata={"axes": "CYX"})
    np.testing.assert_array_equal(read_image(tmp_path / "channels.tif"), VALUES[..., :4])
    tifffile.imwrite(tmp_path / "channels.ome.tif", pages, metadata={"axes": "CYX"})
    np.testing.assert_array_equal(read_image(tmp_path / "channels.ome.tif"), VALUES[..., :4])
    for name, axes in (("stack", "ZYX"), ("film", "TYX")):
        tifffile.imwrite(tmp_path / f"{name}.tif", pages, imagej=True, metadata={"axes": axes})
        with pytest.raises(DataError, match=r"more than one picture in the file \(1, 2, 3, 4\); FILE#1 selects one"):
            read_image(tmp_path / f"{name}.tif")
        np.testing.assert_array_equal(read_image(tmp_path / f"{name}.tif#3"), VALUES[..., 2:3])
        with pytest.raises(DataError, match=r"no such picture in the file \(it holds 1, 2, 3, 4\)"):
            read_image(tmp_path / f"{name}.tif#5")


def test_arrays_of_matlab_and_of_numpy_are_pictures_in_a_file(tmp_path: Path) -> None:
    scipy = pytest.importorskip("scipy.io")
    labels = (VALUES[..., 0] % 5).astype(np.uint8)
    scipy.savemat(tmp_path / "a.mat", {"GTcls": {"Segmentation": labels, "CategoriesPresent": np.arange(3)}})
    assert parts_of(tmp_path / "a.mat") == ["GTcls.Segmentation"]
    np.testing.assert_array_equal(read_mask(tmp_path / "a.mat#GTcls.Segmentation"), labels)
    np.savez_compressed(tmp_path / "a.npz", image=VALUES, label=labels, name="x")
    assert parts_of(tmp_path / "a.npz") == ["image", "label"]
    np.testing.assert_array_equal(read_mask(tmp_path / "a.npz#label"), labels)
    np.save(tmp_path / "a.npy", np.stack([VALUES[..., :3]] * 2))
    assert parts_of(tmp_path / "a.npy") == ["1", "2"]
    np.testing.assert_array_equal(read_image(tmp_path / "a.npy#2"), VALUES[..., :3])


def test_a_picture_in_a_file_is_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[int] = []
    held = SimpleNamespace(parts=several.numbered(2, lambda at: read.append(at) or VALUES))
    monkeypatch.setattr(reading, "_read", lambda file: held)
    np.testing.assert_array_equal(read_image(tmp_path / "a.npz#2"), VALUES)
    assert read == [1]


def test_arrays_of_hdf5_are_pictures_in_a_file_and_those_of_matlab_7_3_are_turned(tmp_path: Path) -> None:
    h5py = pytest.importorskip("h5py")
    labels = (VALUES[..., 0] % 5).astype(np.uint8)
    stacks = {"x": np.stack([VALUES] * 2), "y": np.stack([labels, labels + 1]), "name": np.array([1, 2, 3])}
    greys = {"train/scan": np.stack([labels * 9] * 9), "train/truth": np.stack([labels] * 9)}
    for name, held in (("one", {"img": VALUES, "mask": labels}), ("all", stacks), ("greys", greys)):
        with h5py.File(tmp_path / f"{name}.h5", "w") as file:
            for key, stored in held.items():
                file[key] = stored
    with h5py.File(tmp_path / "a.mat", "w", userblock_size=512) as file:  # MATLAB stores the last axis first
        file["images"], file["labels"] = stacks["x"].transpose(0, 3, 2, 1), stacks["y"].transpose(0, 2, 1)
    (tmp_path / "a.mat").write_bytes(
        b"MATLAB 7.3 MAT-file".ljust(124) + b"\0\2IM" + (tmp_path / "a.mat").read_bytes()[128:]
    )
    assert parts_of(tmp_path / "one.h5") == ["img", "mask"]
    np.testing.assert_array_equal(read_image(tmp_path / "one.h5#img"), VALUES)
    np.testing.assert_array_equal(read_mask(tmp_path / "one.h5#mask"), labels)
    assert parts_of(tmp_path / "all.h5") == ["x/1", "x/2", "y/1", "y/2"]
    np.testing.assert_array_equal(read_image(tmp_path / "all.h5#x/2"), VALUES)
    np.testing.assert_array_equal(read_mask(tmp_path / "all.h5#y/2"), labels + 1)
    assert parts_of(tmp_path / "greys.h5")[8:10] == ["train/scan/9", "train/truth/1"]
    np.testing.assert_array_equal(read_mask(tmp_path / "greys.h5#train/truth/9"), labels)
    np.testing.assert_array_equal(read_image(tmp_path / "a.mat#images/2"), VALUES)
    np.testing.assert_array_equal(read_mask(tmp_path / "a.mat#labels/2"), labels + 1)
    (tmp_path / "cut.h5").write_bytes((tmp_path / "one.h5").read_bytes()[:900])
    with pytest.raises(DataError, match=r"cut\.h5#img: damaged or cut short"):
        read_image(tmp_path / "cut.h5#img")


def test_slices_of_a_volume_are_pictures_in_a_file(tmp_path: Path) -> None:
    nibabel = pytest.importorskip("nibabel")
    volume = VALUES.transpose(1, 0, 2).astype(np.int16)  # [X,Y,Z]
    nibabel.save(nibabel.Nifti1Image(volume, np.eye(4)), tmp_path / "a.nii.gz")
    nibabel.save(nibabel.Nifti1Image(np.stack([volume, volume + 1], 3), np.eye(4)), tmp_path / "two.nii")
    assert parts_of(tmp_path / "a.nii.gz") == [str(number) for number in range(1, 13)]
    np.testing.assert_array_equal(read_image(tmp_path / "a.nii.gz#12"), VALUES[..., 11:])
    np.testing.assert_array_equal(read_mask(tmp_path / "a.nii.gz#1"), VALUES[..., 0])
    np.testing.assert_array_equal(read_image(tmp_path / "two.nii#2"), VALUES[..., [1, 1]] + [0, 1])


def test_a_volume_and_its_labels_lie_alike_though_their_axes_run_the_other_way(tmp_path: Path) -> None:
    nibabel = pytest.importorskip("nibabel")
    volume = VALUES.transpose(1, 0, 2).astype(np.int16)  # [X,Y,Z]
    for number, ways in enumerate([(-1, -1, 1), (1, -1, -1), (-1, 1, 1)]):
        stored = volume[tuple(slice(None, None, way) for way in ways)]
        corner = [(1 - way) / 2 * (size - 1) for way, size in zip(ways, volume.shape, strict=True)]
        affine = np.diag([*ways, 1.0])
        affine[:3, 3] = corner
        nibabel.save(nibabel.Nifti1Image(stored, affine), tmp_path / f"{number}.nii.gz")
        for place in (1, 5, 12):
            mask = read_mask(tmp_path / f"{number}.nii.gz#{place}")
            np.testing.assert_array_equal(mask, VALUES[..., place - 1])


@pytest.mark.parametrize(
    ("system", "steps", "corner", "refused"),
    [
        ("EPSG:32632", (2, 0, 0, -2), (500_000.1, 5e6), False),  # a twentieth of a pixel
        ("", (2, 0, 0, -2), (500_000, 5e6), False),
        ("EPSG:32632", (2, 0, 0, -2), (500_008, 5e6), True),
        ("EPSG:32633", (2, 0, 0, -2), (500_000, 5e6), True),
        ("EPSG:32632", (2, 0, 0, 2), (500_000, 5e6 - 80), True),  # south is up
        ("EPSG:32632", (1, 0, 0, -1), (500_000, 5e6), True),
    ],
)
def test_a_mask_that_says_it_lies_elsewhere_than_its_image_is_refused(
    tmp_path: Path, system: str, steps: tuple[float, ...], corner: tuple[float, float], refused: bool
) -> None:
    rasterio = pytest.importorskip("rasterio")
    nibabel = pytest.importorskip("nibabel")

    def geotiff(name: str, dtype: str, system: str, steps: tuple[float, ...], corner: tuple[float, float]) -> Path:
        how = {"width": 56, "height": 40, "count": 1, "dtype": dtype, "crs": system or None}
        place = rasterio.Affine(*steps[:2], corner[0], *steps[2:], corner[1])
        with rasterio.open(tmp_path / name, "w", "GTiff", transform=place, **how) as file:
            file.write((VALUES[..., 0] % 2).astype(dtype), 1)
        return tmp_path / name

    def volume(name: str, steps: tuple[float, ...], corner: tuple[float, float]) -> Path:
        affine = np.diag([steps[0], -steps[3], 1.0, 1.0])
        affine[:2, 3] = corner[0] - 500_000, corner[1] - 5e6
        nibabel.save(nibabel.Nifti1Image(np.zeros((56, 40, 3), np.uint8), affine), tmp_path / name)
        return tmp_path / f"{name}#2"

    north, at = (2, 0, 0, -2), (500_000, 5e6)
    pairs = [
        (
            geotiff(f"image_{dtype}.tif", dtype, "EPSG:32632", north, at),
            geotiff("m.tif", "uint8", system, steps, corner),
        )
        for dtype in ("uint8", "uint32")  # of Pillow, and of tifffile
    ]
    if system != "EPSG:32633" and steps != (2, 0, 0, 2):
        pairs.append((volume("image.nii", north, at), volume("mask.nii.gz", steps, corner)))
    for image, mask in pairs:
        dataset = PairedFiles([(image, mask)], classes=["a", "b"], palette=[(0, 0, 0), (1, 1, 1)])
        if refused:
            with pytest.raises(
                DataError, match=rf"{mask.name}: its georeference differs from that of its image.*{image.name}"
            ):
                dataset.headers(0)
        else:
            dataset.headers(0)


def test_pictures_of_a_matlab_file_are_counted_by_its_last_axis_before_7_3_too(tmp_path: Path) -> None:
    scipy = pytest.importorskip("scipy.io")
    labels = (VALUES % 5).astype(np.uint8)  # [H,W,N]
    scipy.savemat(tmp_path / "greys.mat", {"x": VALUES, "y": labels})
    scipy.savemat(tmp_path / "colours.mat", {"x": np.stack([VALUES] * 3, 2), "y": labels})
    scipy.savemat(
        tmp_path / "python.mat", {"x": VALUES.transpose(2, 0, 1)[:, :, :40], "y": labels[:, :40].transpose(2, 0, 1)}
    )
    for name in ("greys", "colours", "python"):
        file = tmp_path / f"{name}.mat"
        assert parts_of(file) == [f"{part}/{number}" for part in "xy" for number in range(1, 13)]
        wide = 40 if name == "python" else 56
        np.testing.assert_array_equal(read_mask(f"{file}#y/12"), labels[:, :wide, 11])
        np.testing.assert_array_equal(read_image(f"{file}#x/12")[..., 0], VALUES[:, :wide, 11])
    scipy.savemat(tmp_path / "cube.mat", {"cube": VALUES[:40, :40].repeat(4, 2)})
    assert parts_of(tmp_path / "cube.mat") == ["cube"]


def test_channels_and_classes_in_them_are_no_pictures(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", image=VALUES[..., :3].transpose(2, 0, 1), mask=VALUES[..., :3].transpose(2, 0, 1) > 99)
    assert parts_of(tmp_path / "a.npz") == ["image", "mask"]
    np.testing.assert_array_equal(read_image(tmp_path / "a.npz#image"), VALUES[..., :3])


def test_dicom_is_read_in_its_units_and_by_frames(tmp_path: Path) -> None:
    pydicom = pytest.importorskip("pydicom")
    data = pydicom.Dataset()
    data.file_meta = pydicom.dataset.FileMetaDataset()
    data.file_meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
    data.SOPClassUID, data.SOPInstanceUID = "1.2.840.10008.5.1.4.1.1.2", "1.2.3"
    data.Rows, data.Columns, data.SamplesPerPixel, data.PhotometricInterpretation = 40, 56, 1, "MONOCHROME2"
    data.BitsAllocated, data.BitsStored, data.HighBit, data.PixelRepresentation = 16, 12, 11, 0
    data.RescaleSlope, data.RescaleIntercept = 2, -1024
    for name, frames in (("a", 1), ("b", 3)):
        data.NumberOfFrames = frames
        data.PixelData = np.moveaxis(VALUES[..., :frames], 2, 0).astype(np.uint16).tobytes()
        data.save_as(tmp_path / f"{name}.dcm", implicit_vr=False, little_endian=True, enforce_file_format=True)
    np.testing.assert_array_equal(read_image(tmp_path / "a.dcm")[..., 0], VALUES[..., 0] * 2.0 - 1024)
    np.testing.assert_array_equal(read_image(tmp_path / "b.dcm#3")[..., 0], VALUES[..., 2] * 2.0 - 1024)


@pytest.mark.parametrize(
    ("module", "file", "extra"),
    [("h5py", "a.h5", "h5"), ("nibabel", "a.nii.gz", "nifti"), ("pydicom", "a.dcm", "dicom")],
)
def test_what_needs_a_package_says_which(
    module: str, file: str, extra: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    (tmp_path / file).write_bytes(b"\x89HDF")
    with pytest.raises(DataError, match=rf"needs {module}; install it: python -m pip install 'segkit\[{extra}\]'"):
        read_image(tmp_path / file)


def test_labels_written_as_text_are_masks(tmp_path: Path) -> None:
    labels = VALUES[..., 0].astype(int) % 5 - 1
    np.savetxt(tmp_path / "a.regions.txt", labels, fmt="%d")
    np.savetxt(tmp_path / "b.csv", labels, delimiter=",")  # as 1.000000000000000000e+00
    for name in ("a.regions.txt", "b.csv"):
        np.testing.assert_array_equal(read_mask(tmp_path / name), labels)
    (tmp_path / "readme.txt").write_text("cite this")
    with pytest.raises(DataError, match=r"readme\.txt: damaged or cut short"):
        read_mask(tmp_path / "readme.txt")


@pytest.mark.filterwarnings("ignore")  # commands hide the warnings of rasterio and Pillow
@pytest.mark.parametrize("ending", ["jp2", "j2k"])
def test_jpeg_2000_is_read_and_masks_with_losses_are_refused(tmp_path: Path, ending: str) -> None:
    pytest.importorskip("rasterio")
    assert f".{ending}" in suffixes()
    path = tmp_path / f"a.{ending}"
    for stored in (VALUES[..., :3].astype(np.uint8), VALUES[..., 0].astype(np.uint8), (VALUES[..., 0] << 8) + 7):
        Image.fromarray(stored.astype(np.uint16 if stored.max() > 255 else np.uint8)).save(path)
        pixels = read_image(path)
        assert pixels.dtype == (np.float32 if stored.max() > 255 else np.uint8)
        assert (
            pixels
            == (stored if stored.max() > 255 or stored.ndim == 3 else stored[..., None].repeat(3, 2)).reshape(
                pixels.shape
            )
        ).all()
    Image.fromarray((VALUES[..., 0] % 3).astype(np.uint8)).save(path)
    assert (read_mask(path) == VALUES[..., 0] % 3).all()
    Image.fromarray((VALUES[..., 0] % 3).astype(np.uint8)).save(path, irreversible=True)
    with pytest.raises(DataError, match=r"the mask is a JPEG 2000 with losses, .* as PNG"):
        read_mask(path)
    assert read_mask(path, threshold=1.0).max() == 255
    path.write_bytes(path.read_bytes()[:90])
    with pytest.raises(DataError, match="damaged or cut short"):
        read_image(path)
    path.write_bytes(b"II*\0" * 40)
    with pytest.raises(DataError, match="not an image"):
        read_image(path)


def test_jpeg_2000_of_other_bits_and_bands_is_read_by_rasterio(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rasterio = pytest.importorskip("rasterio")
    stored, path = np.moveaxis(VALUES[..., :4] * 16, 2, 0).astype(np.uint16), tmp_path / "a.jp2"
    how = {"width": 56, "height": 40, "dtype": "uint16", "QUALITY": 100, "REVERSIBLE": "YES", "NBITS": 12}
    place = {"crs": "EPSG:32632", "transform": rasterio.Affine(10, 0, 500_000, 0, -10, 5_000_000)}
    for bands in (1, 4):
        with rasterio.open(path, "w", driver="JP2OpenJPEG", count=bands, **how, **place) as file:
            file.write(stored[:bands])
        header = read_header(path)
        assert (len(header.channels), header.georeference) == (bands, True)
        assert header.place == ("EPSG:32632", ((500_000, 5_000_000), (500_560, 5_000_000), (500_000, 4_999_600)))
        assert (read_image(path) == np.moveaxis(stored[:bands], 0, 2)).all()
    how |= {"dtype": "uint8", "NBITS": 8}
    for quality, lossy in ((100, ""), (25, "a JPEG 2000 with losses")):  # bits of the 5-3 wavelet are left out
        with rasterio.open(path, "w", driver="JP2OpenJPEG", count=1, **{**how, "QUALITY": quality}, **place) as file:
            file.write(stored[:1].astype(np.uint8))
        with reading.opened(path) as raster:
            assert raster.is_lossy == lossy
    with rasterio.open(path, "w", driver="JP2OpenJPEG", count=3, **how, **place) as file:  # three bands, called grey
        file.write(stored[:3].astype(np.uint8))
    assert (read_image(path) == np.moveaxis(stored[:3].astype(np.uint8), 0, 2)).all()
    monkeypatch.setitem(sys.modules, "rasterio", None)
    with pytest.raises(DataError, match=r"a JPEG 2000, which needs rasterio; install it: .*segkit\[geo\]"):
        read_image(path)


def test_smaller_copies_are_no_pages(tmp_path: Path) -> None:
    with tifffile.TiffWriter(tmp_path / "pyramid.tif") as file:
        file.write(VALUES.astype(np.int16), photometric="minisblack", planarconfig="contig")
        file.write(VALUES[::2, ::2].astype(np.int16), photometric="minisblack", planarconfig="contig", subfiletype=1)
    np.testing.assert_array_equal(read_image(tmp_path / "pyramid.tif"), VALUES)


def test_masks_are_read_as_they_are_stored(tmp_path: Path) -> None:
    for dtype in ("i1", "u4", "f8"):
        labels = (VALUES[..., 0] % 5 - (dtype != "u4")).astype(dtype)
        np.testing.assert_array_equal(read_mask(write(tmp_path / "mask.tif", labels, planarconfig=None)), labels)
    planar = np.stack([VALUES[..., 0] % 5] * 3).astype(np.uint8)
    path = write(tmp_path / "grey.tif", planar, photometric="rgb", planarconfig="separate")
    np.testing.assert_array_equal(read_mask(path), planar[0])
    np.save(tmp_path / "mask.npy", VALUES[..., 0] - 1)  # int64, as NumPy's own
    np.testing.assert_array_equal(read_mask(tmp_path / "mask.npy"), VALUES[..., 0] - 1)


def test_numpy_arrays_are_images_either_way_round(tmp_path: Path) -> None:
    assert ".npy" in suffixes()
    for name, stored, channels in (
        ("hwc", VALUES, 12),
        ("chw", VALUES.transpose(2, 0, 1), 12),
        ("hw", VALUES[..., 0], 1),
    ):
        np.save(tmp_path / f"{name}.npy", stored.astype(np.int16))
        np.testing.assert_array_equal(read_image(tmp_path / f"{name}.npy"), VALUES[..., :channels])
        assert len(read_header(tmp_path / f"{name}.npy").channels) == channels
        assert read_image(tmp_path / f"{name}.npy").flags.writeable  # else PyTorch warns
    np.save(tmp_path / "bytes.npy", (VALUES[..., :3] % 256).astype(np.uint8))
    assert read_image(tmp_path / "bytes.npy").flags.writeable
    np.save(tmp_path / "objects.npy", np.array([{"a": 1}]), allow_pickle=True)
    with pytest.raises(DataError, match=r"objects\.npy: holds Python objects"):
        read_image(tmp_path / "objects.npy")
    np.savez(tmp_path / "objects.npz", np.array([{"a": 1}]))
    with pytest.raises(DataError, match=r"objects\.npz: holds Python objects"):
        read_image(tmp_path / "objects.npz")
    np.savez(tmp_path / "both.npz", image=VALUES[..., 0], meta=np.array([{"a": 1}]))
    np.testing.assert_array_equal(read_image(tmp_path / "both.npz#image")[..., 0], VALUES[..., 0])
    np.save(tmp_path / "row.npy", np.zeros(4))
    with pytest.raises(DataError, match=r"row\.npy: not a picture \(float64 \[4\]\); a picture is an array of numbers"):
        read_image(tmp_path / "row.npy")


@pytest.mark.fault("F26")
def test_a_claim_of_too_many_pixels_is_refused_before_anything_is_decoded(tmp_path: Path) -> None:
    path = write(tmp_path / "a.tif", VALUES.astype(np.int16))
    assert path.stat().st_size < MAX_PIXELS
    with pytest.raises(DataError, match=r"a\.tif: larger than the limit of 2,000 pixels \(56 x 40\)"):
        read_image(path, 2000)
    path.write_bytes(path.read_bytes()[:3000])
    with pytest.raises(DataError, match=r"a\.tif: "):
        read_image(path)


class Drawing:
    """What a reader of somebody else's gives: it is no array, and says more of itself."""

    shape, dtype, channels, no_data, is_lossy = (2, 3, 2), np.dtype("f4"), ("height", "slope"), -1.0, ""

    def __init__(self) -> None:
        self.closed = 0

    def __getitem__(self, key: object) -> np.ndarray:
        return np.arange(12, dtype=np.float32).reshape(self.shape)[key]  # type: ignore[index]

    def labels(self) -> np.ndarray:
        return np.full((2, 3), 7, np.uint16)

    def verify(self) -> None:
        raise ValueError("its sum is another")

    def close(self) -> None:
        self.closed += 1


def test_a_reader_of_others_is_asked_first_and_what_it_says_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def offered(function: Any) -> Any:
        return type("Offered", (), {"load": lambda _: function})()

    path, drawing = tmp_path / "a.png", Drawing()
    path.write_bytes(b"a drawing")
    readers = {"png": [offered(lambda _: None), offered(lambda _: drawing)], "any": []}
    monkeypatch.setattr(reading, "_readers", lambda: readers)
    header = read_header(path)
    assert (header.size, header.channels, header.no_data) == ((2, 3), ("height", "slope"), -1)
    np.testing.assert_array_equal(read_image(path, bands=[2])[..., 0], [[1, 3, 5], [7, 9, 11]])
    assert read_mask(path).tolist() == [[7, 7, 7], [7, 7, 7]]
    with pytest.raises(DataError, match=r"a\.png: damaged or cut short \(its sum is another\)"):
        check_checksums(path)
    assert drawing.closed == 4
    drawing.is_lossy = "drawn by hand"  # type: ignore[misc]
    with pytest.raises(DataError, match=r"a\.png: the mask is drawn by hand, and that changes labels"):
        read_mask(path)
    del readers["png"]
    with pytest.raises(DataError, match=r"a\.png: no installed reader can read it; known suffixes are \.jpg"):
        read_image(path)


def test_a_small_archive_cannot_fill_the_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    np.savez_compressed(tmp_path / "a.npz", image=np.zeros((64, 64), np.uint8))
    monkeypatch.setattr(several, "MAX_BYTES", 4096)
    with pytest.raises(
        DataError, match=r"its array image.npy has more than the 4,096 bytes that are read \(4,224 bytes\)"
    ):
        read_image(tmp_path / "a.npz#image")


def test_the_only_picture_in_a_file_needs_no_name(tmp_path: Path) -> None:
    stored = VALUES[..., :3].astype(np.uint8)
    np.savez(tmp_path / "a.npz", picture=stored)
    np.save(tmp_path / "b.npy", stored[None])
    assert (read_image(tmp_path / "a.npz") == stored).all()
    assert (read_image(tmp_path / "b.npy") == stored).all()


@pytest.mark.parametrize("rows", ["0;1;2\n0;1;1\n", "0 1 2\r\n0 1 1\r\n"])
def test_labels_as_text_may_have_semicolons(rows: str, tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text(rows)
    assert read_mask(tmp_path / "a.csv").tolist() == [[0, 1, 2], [0, 1, 1]]

"""CVAT's exports "CVAT for images" (XML) and "Segmentation mask" (labelmap.txt and colours)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
from numpy.typing import NDArray

from segkit.data.sample import Colour
from segkit.errors import DataError, LabelError
from segkit_annotations import files
from segkit_annotations.dataset import AnnotatedImages
from segkit_annotations.draw import Shape, Size, box, ellipse, numbers
from segkit_annotations.files import Drawn, Record
from segkit_folder.class_file import parse
from segkit_folder.masks import read_mask
from segkit_folder.splits import read_text, split_called


class CvatDataset(AnnotatedImages):
    """CVAT's XML "for images", later shapes over earlier ones by z_order; or its export "segmentation mask".

    docs.cvat.ai/docs/other/xml_format. Polygons are drawn like pycocotools, which CVAT's own mask export uses too;
    polylines are 10 pixels wide. ``annotations`` is annotations.xml, or labelmap.txt with the colours of the masks in
    SegmentationClass.
    """

    tool = "CVAT for images"
    expected = "annotations.xml, or labelmap.txt beside SegmentationClass"

    def _records(self, path: Path, names: dict[str, None]) -> Iterable[Record]:
        return self._masks(path, names) if path.suffix == ".txt" else _of_xml(path, names)

    def _masks(self, path: Path, names: dict[str, None]) -> Iterator[Record]:
        listed, masks = parse(read_text(path), str(path)), path.parent / "SegmentationClass"
        if not listed.colours:
            raise DataError(f"{path}: no labelmap of CVAT, which has lines such as 'cat:224,64,64::'")
        colours: dict[Colour, str] = {}
        for (r, g, b), name in zip(listed.colours, listed.names, strict=True):
            if (other := colours.setdefault((r, g, b), name)) != name:
                what = f"{path}: {r},{g},{b} is the colour of {other!r} and of {name!r}"
                raise LabelError(f"{what}; export again with one colour per class, or remove one of the classes")
        shapes = [Shape(name, "colour", colour) for colour, name in colours.items()]
        names |= dict.fromkeys(listed.names)
        lists = sorted((path.parent / "ImageSets" / "Segmentation").glob("*.txt"))
        named = {each: [*filter(None, map(str.strip, read_text(each).splitlines()))] for each in lists}
        named = named or {path: [mask.stem for mask in sorted(masks.glob("*.png"))]}
        for each, those in named.items():
            if outside := [name for name in those if not files.is_inside(masks / name, masks)]:
                raise DataError(f"{each}: {outside[0]!r} is a path outside the data set")
            for name in those:
                yield Record(name, shapes, None, split_called(each.stem), "JPEGImages", (masks / f"{name}.png",))

    def _draw(self, entry: Record, size: Size) -> NDArray[np.uint8]:
        if not entry.shapes or entry.shapes[0].kind != "colour":
            return super()._draw(entry, size)
        labels = read_mask(entry.sources[0], {each.data: self._rasterizer.labels[each.label] for each in entry.shapes})
        self._check_size(entry, labels.shape, size)
        return labels

    @classmethod
    def _find(cls, root: Path) -> list[Path]:
        found = [path for path in files.walk(root, "labelmap.txt") if (path.parent / "SegmentationClass").is_dir()]
        return found + files.holding(root, "*.xml", ("<annotations>",))

    @classmethod
    def _sample(cls, split: str, drawn: Sequence[Drawn]) -> Iterator[tuple[str, Any]]:
        lines = [f"<label><name>{name}</name></label>" for name in ("square", "triangle")]
        lines = ["<annotations><meta><project><labels>", *lines, "</labels></project></meta>"]
        for path, objects in drawn:
            lines.append(f'<image name="{path.name}" width="40" height="30">')
            for name, corners in objects:
                lines.append(f'<polygon label="{name}" points="{";".join(f"{x},{y}" for x, y in corners)}"/>')
            lines.append("</image>")
        yield f"{split}/annotations.xml", "".join([*lines, "</annotations>"])


def _of_xml(path: Path, names: dict[str, None]) -> Iterator[Record]:
    tree = files.load(path)
    if tree.find("track") is not None:
        raise DataError(f"{path}: CVAT for video; export it as CVAT for images")
    names |= {str(each.findtext("name")): None for each in tree.iterfind("meta//labels/label")}
    for image in tree.iter("image"):
        subset = image.get("subset") or ""
        shapes = sorted((each for each in image if each.tag != "tag"), key=lambda each: int(each.get("z_order") or 0))
        size = image.get("height"), image.get("width")
        yield Record(image.attrib["name"], [_shape(each) for each in shapes], size, split_called(subset), subset)


def _shape(element: ElementTree.Element) -> Shape:
    its, kind = element.attrib, element.tag
    turn = float(its.get("rotation") or 0)
    if kind in ("polygon", "polyline"):
        points = numbers([pair.split(",") for pair in its["points"].split(";")])
        return Shape(its["label"], "polygon" if kind == "polygon" else "line", [points])
    if kind in ("box", "ellipse"):
        keys = ("xtl", "ytl", "xbr", "ybr") if kind == "box" else ("cx", "cy", "rx", "ry")
        one, two, three, four = (float(its[key]) for key in keys)
        return Shape(its["label"], "polygon", [(box if kind == "box" else ellipse)(one, two, three, four, turn)])
    if kind == "mask":
        left, top, width, height = (int(its[key]) for key in ("left", "top", "width", "height"))
        counts = [int(each) for each in its["rle"].split(",")]
        return Shape(its["label"], "runs", (top, left, (height, width), counts, False))
    return Shape(its["label"], kind, None)

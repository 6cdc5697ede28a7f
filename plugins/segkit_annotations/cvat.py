"""CVAT's export "CVAT for images" (XML)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, ClassVar
from xml.etree import ElementTree

from segkit.errors import DataError
from segkit_annotations import files
from segkit_annotations.dataset import AnnotatedImages
from segkit_annotations.draw import Shape, box, ellipse, numbers
from segkit_annotations.files import Drawn
from segkit_annotations.records import Record
from segkit_folder.splits import split_called


class CvatDataset(AnnotatedImages):
    """CVAT's XML "for images": later shapes over earlier ones, by z_order.

    docs.cvat.ai/docs/other/xml_format. Polygons are drawn like pycocotools, which CVAT's own mask export uses too;
    polylines are 10 pixels wide. CVAT's export "segmentation mask" is read by the dataset ``folder``.
    """

    tool = "CVAT for images"
    signs: ClassVar = {"*.xml": ("<annotations>",)}
    expected = 'annotations.xml; the dataset "folder" reads masks with a labelmap.txt'

    def _records(self, path: Path, names: dict[str, None]) -> Iterator[Record]:
        if path.suffix == ".txt":
            advice = f'classes = "{path.name}", images = "JPEGImages", masks = "SegmentationClass"'
            raise DataError(f'{path}: the dataset "folder" reads such masks, with {advice}')
        tree = files.load(path)
        if tree.find("track") is not None:
            raise DataError(f"{path}: CVAT for video; export it as CVAT for images")
        names |= {str(each.findtext("name")): None for each in tree.iterfind("meta//labels/label")}
        for image in tree.iter("image"):
            subset, size = image.get("subset") or "", (image.get("height"), image.get("width"))
            drawn = sorted((x for x in image if x.tag != "tag"), key=lambda each: int(each.get("z_order") or 0))
            yield Record(image.attrib["name"], [*map(_shape, drawn)], size, split_called(subset), subset)

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

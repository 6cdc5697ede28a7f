"""Annotation datasets: COCO, labelme, Label Studio, VIA, YOLO, CVAT, Supervisely, XML, GeoJSON, RLE, mask layers."""

from __future__ import annotations

import segkit


@segkit.hookimpl
def segkit_datasets() -> dict[str, str]:
    """Offer one dataset class per format."""
    return {
        "coco": "segkit_annotations.coco:CocoDataset",
        "labelme": "segkit_annotations.labelme:LabelmeDataset",
        "labelstudio": "segkit_annotations.labelstudio:LabelStudioDataset",
        "via": "segkit_annotations.via:ViaDataset",
        "yolo": "segkit_annotations.yolo:YoloDataset",
        "cvat": "segkit_annotations.cvat:CvatDataset",
        "supervisely": "segkit_annotations.supervisely:SuperviselyDataset",
        "polygons": "segkit_annotations.polygons:PolygonsDataset",
        "rle": "segkit_annotations.rle:RleDataset",
        "layers": "segkit_annotations.layers:LayersDataset",
    }

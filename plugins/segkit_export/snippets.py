"""The code in a model card: loads the exported file and predicts; runs unchanged in the folder of the export."""

from __future__ import annotations

from typing import TYPE_CHECKING

from segkit_export.origin import Origin
from segkit_export.place import MARK

if TYPE_CHECKING:
    from segkit_export.exporting import Exported

_IMAGE = """photo = ImageOps.exif_transpose(Image.open("photo.jpg")).convert("RGB")  # upright
pixels = np.asarray(photo{resize})
image = np.ascontiguousarray(pixels.transpose(2, 0, 1)[None])  # uint8 [1,3,H,W]"""

_STORED = """pixels = np.load("image.npy")  # [H,W,{channels}], the values as they are stored
image = np.ascontiguousarray(pixels.transpose(2, 0, 1)[None], np.{dtype})  # [1,{channels},H,W]"""

_LABELS = {
    "labels": "labels = answer[0]  # uint8 [H,W]",
    "logits": "labels = answer[0].argmax(0)  # of logits [C,H,W]",
}

_GRAPH = """import json

import numpy as np
import {library}
from PIL import Image, ImageOps

{load}
{image}
{run}
{labels}
classes, palette = json.loads(facts["classes"]), json.loads(facts["palette"])
print({{classes[label]: int((labels == label).sum()) for label in np.unique(labels)}})"""

_GRAPHS = {  # format -> library, code that loads the graph, code that runs it
    "onnx": (
        "onnxruntime",
        'session = onnxruntime.InferenceSession({name}, providers=["CPUExecutionProvider"])\n'
        "facts = session.get_modelmeta().custom_metadata_map",
        '(answer,) = session.run(None, {"image": image})',
    ),
    "torch-export": (
        "torch",
        'facts = {{"classes": "", "palette": ""}}\nmodel = torch.export.load({name}, extra_files=facts).module()',
        "answer = model(torch.from_numpy(image)).numpy()",
    ),
}

_FOLDER = """import segkit

predictor = segkit.load("."{model})  # the folder of model.safetensors and config.json
labels = predictor.predict("photo.jpg")  # uint8 [H,W]
print({{name: int((labels == label).sum()) for label, name in enumerate(predictor.classes)}})"""

_NEEDS = {"onnx": "numpy pillow onnxruntime", "torch-export": "numpy pillow torch", "safetensors": "segkit"}


def snippet(exported: Exported, origin: Origin) -> str:
    """Return the line that installs the packages, a block of Python, and a sentence about the file's metadata."""
    to, more = exported.place.to, ""
    needs = _NEEDS[to]
    if to == "safetensors":
        provider = str(origin.model.get("distribution") or "segkit")
        needs += "" if provider == "segkit" else f" {provider}"
        more = "" if origin.model else "`model` is one like that which was trained. "
        code = _FOLDER.format(model="" if origin.model else ", model=model")
    else:
        library, load, run = _GRAPHS[to]
        name = '"' + ascii(exported.place.names[0])[1:-1].replace('"', '\\"') + '"'
        resize = ".resize(({1}, {0}))".format(*exported.size) if exported.size else ""
        dtype, channels = exported.dtype, len(exported.channels)
        read = _IMAGE if (dtype, channels) == ("uint8", 3) else _STORED
        image, labels = read.format(resize=resize, dtype=dtype, channels=channels), _LABELS[exported.answer]
        code = _GRAPH.format(library=library, load=load.format(name=name), image=image, run=run, labels=labels)
    about = f"{more}Class names, colours and `{MARK}` (what the model is) are in the file's metadata."
    return f"    pip install {needs}\n\n```python\n{code}\n```\n\n{about}"

"""What an export has written, as lines for people and as a record for programs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from segkit_export.comparison import Agreement
from segkit_export.place import Place


@dataclass(frozen=True)
class Exported:
    """What was written.

    Attributes:
        place: the folder and the files in it.
        agreement: with PyTorch.
        bytes: of the file that holds the model.
        answer: ``labels`` or ``logits``; nothing of weights alone.
        free: of ``batch``, ``height`` and ``width`` those that may be any.
        size: the height and width of an image, where they are fixed.
        least: the fewest pixels a side, where they may be any.
        fallen: why they are fixed, where nobody asked for it.
        dtype: of the image.
    """

    place: Place
    agreement: Agreement
    bytes: int = 0
    answer: str = ""
    free: tuple[str, ...] = ()
    size: tuple[int, int] | None = None
    least: int = 0
    fallen: str = ""
    dtype: str = "uint8"

    @property
    def signature(self) -> str:
        """Input and output, as ``image uint8 [B,3,H,W] -> labels uint8 [B,H,W]``."""
        batch = "B" if "batch" in self.free else "1"
        sides = f"{self.size[0]},{self.size[1]}" if self.size else "H,W"
        out = f"logits float32 [{batch},C,{sides}]" if self.answer == "logits" else f"labels uint8 [{batch},{sides}]"
        return f"image {self.dtype} [{batch},3,{sides}] -> {out}"

    def lines(self) -> list[str]:
        """For people."""
        found = [f"{self.place.model}: {self.bytes / 1e6:.1f} MB"]
        if self.answer:
            found.append(f"{self.signature}{f'; H and W from {self.least}' if self.least else ''}")
        if self.fallen:
            found.append(f"the size is fixed, and --size H W chooses another: {self.fallen}")
        found.append(f"equal to PyTorch: {self.agreement}")
        found.append(f"beside it: {', '.join(self.place.names[1:])}")
        return found

    def record(self) -> dict[str, Any]:
        """For programs."""
        return {
            "to": self.place.to,
            "files": [str(self.place.folder / name) for name in self.place.names],
            "bytes": self.bytes,
            "output": self.answer or None,
            "free": list(self.free),
            "size": list(self.size) if self.size else None,
            "least": self.least or None,
            "fixed_because": self.fallen or None,
            "agreement": self.agreement.share,
            "pixels": self.agreement.pixels,
            "images": [list(size) for size in self.agreement.sizes],
            "source": self.agreement.source,
        }

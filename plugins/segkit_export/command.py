"""The command line of ``export``: arguments, checked before torch is imported."""

from __future__ import annotations

import argparse
from pathlib import Path

from segkit.cli.output import add_output_options, hanging, print_json
from segkit.errors import ConfigError
from segkit_export.place import FORMATS, find_place


class Export:
    """Write a trained model for use elsewhere: image in, labels out, compared with PyTorch.

    onnx and torch-export hold the whole prediction: normalisation, resizing, padding and the likeliest
    class. Input `image`, uint8 [B,3,H,W], RGB, or float32 where the images had more than 8 bits a
    channel; output `labels`, uint8 [B,H,W], or with --logits `logits`, float32 [B,C,H,W]; any B, H and W
    where the model allows it. safetensors is a folder that segkit.load takes. What was written is run on
    three images; less than 99.9 % of equal pixels is an error. A model card, README.md, is written
    beside it.
    """

    @staticmethod
    def add_arguments(parser: argparse.ArgumentParser) -> None:
        """Add the arguments for the run, the format and the output."""
        parser.add_argument("run", type=Path, help="a run folder, or model.safetensors, best.pt or last.pt in it")
        to = parser.add_argument("--to", required=True, metavar="FORMAT", help=f"one of {', '.join(FORMATS)}")
        to.completer = lambda **_: FORMATS  # type: ignore[attr-defined]
        parser.add_argument(
            "--output",
            type=Path,
            metavar="PLACE",
            help="a folder, or a .onnx or .pt2 file; else RUN/export/FORMAT",
        )
        group = parser.add_mutually_exclusive_group()
        group.add_argument("--labels", action="store_true", help="the likeliest class of each pixel; the default")
        group.add_argument("--logits", action="store_true", help="the scores of all classes instead")
        parser.add_argument(
            "--size", type=_side, nargs=2, metavar=("H", "W"), help="one image size instead of any, for what needs it"
        )
        document = "files, bytes, what the graph takes and returns, agreement: the share of pixels equal to PyTorch's"
        add_output_options(parser, document=document)

    @staticmethod
    def run(arguments: argparse.Namespace) -> int:
        """Export, compare with PyTorch, and print the result."""
        run, to = arguments.run, arguments.to
        folder = run if run.is_dir() else run.parent
        output = arguments.output or folder / "export" / to
        find_place(to, output)
        if to == "safetensors" and (arguments.labels or arguments.logits or arguments.size):
            raise ConfigError("--to safetensors writes weights, not a graph: --labels, --logits and --size have no use")
        import segkit
        from segkit_export.exporting import export

        if (folder / "config.json").is_file() and segkit.read_run(folder).model.get("model") is None:
            raise ConfigError(
                f"{folder} was trained on a model that was given as an object, which no command can build; in Python: "
                f"segkit_export.export(segkit.load({str(run)!r}, model=...), to={to!r}, output=..., "
                f"run={str(folder)!r})"
            )
        predictor = segkit.load(run, device="cpu", precision="fp32")
        size = (*arguments.size,) if arguments.size else None
        done = export(predictor, to=to, output=output, logits=arguments.logits, size=size, run=run)
        if arguments.json:
            print_json(done.record())
        else:
            file, *told = done.lines()
            print("\n".join([file, *(hanging(line, 2) for line in told)]))
        return 0


def _side(text: str) -> int:
    if not text.isdecimal() or not 1 <= int(text) <= 65535:
        raise argparse.ArgumentTypeError(f"{text!r}: a whole number of pixels is needed, from 1 to 65535")
    return int(text)

"""The quickstart without TOML: the same objects in plain Python.

python examples/train.py
"""

import torch

import segkit

torch.manual_seed(0)  # the model is built here, so its first weights are yours to seed

shapes = segkit.datasets["shapes"]
train, val, test = (shapes(split=split) for split in ("train", "val", "test"))

# the dataset decides these two, and everything else is given them
facts = {"num_classes": len(train.classes), "ignore_index": train.ignore_index}

if __name__ == "__main__":  # loader processes import this file again
    result = segkit.fit(
        model=segkit.models["unet"](num_classes=len(train.classes), width=16, depth=3),
        loss={
            "cross_entropy": segkit.losses["cross_entropy"](**facts),
            "dice": segkit.losses["dice"](**facts, include_background=False),
        },
        train=train,
        val=val,
        test=test,
        output="runs/train-py",
        overwrite=True,
        epochs=24,
        batch_size=8,
        lr=3e-3,
        schedule="one_cycle",
    )
    score = result.splits["test"]
    print(f"test mean IoU {score['mean_iou']:.3f}, floor {score['floor']['mean_iou']:.3f}")

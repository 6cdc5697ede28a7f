"""Models: a UNet written from scratch, and segmentation-models-pytorch as the baseline."""

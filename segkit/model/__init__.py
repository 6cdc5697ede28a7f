"""Models: a UNet written from scratch and the segmentation-models-pytorch baseline."""

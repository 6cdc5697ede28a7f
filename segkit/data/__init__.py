"""Datasets, image reading, the scan, augmentation and loaders."""

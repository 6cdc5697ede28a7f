"""Samples, mask reading, splits, augmentation and loaders."""

"""Prediction with trained models: sliding windows, test-time augmentation, ensembles."""

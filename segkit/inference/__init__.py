"""Prediction with a trained model: masks and pictures."""

"""The confusion matrix and the scores computed from it."""

"""One confusion matrix and what is read off it."""

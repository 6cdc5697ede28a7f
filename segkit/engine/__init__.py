"""The one training loop: steps, evaluation, precision, checkpoints."""

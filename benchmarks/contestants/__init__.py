"""The same training, written in several ways: a file a contestant, each with ``run(task, clock) -> scores``."""

"""What every test shares: quiet TensorFlow logs, the backend, a seeded generator."""

import os

# Before the first import of TensorFlow, which the process then makes once.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("KERAS_BACKEND", "tensorflow")
os.environ.setdefault("TF_USE_LEGACY_KERAS", "1")

import numpy as np
import pytest


@pytest.fixture
def rng():
    """A generator seeded anew for each test."""
    return np.random.default_rng(20)

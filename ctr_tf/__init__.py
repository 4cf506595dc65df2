"""ctr_tf: a training stack for click-through-rate prediction in TensorFlow and Keras."""

__version__ = "0.1.0"

"""TensorFlow Serving's messages without TensorFlow: see `messages.proto`."""

"""Between log rows, tf.Examples and batches of tensors."""

"""A local prediction server and a client, both speaking TensorFlow Serving's own gRPC."""

"""The local server under mixed load, with a version swap each minute."""

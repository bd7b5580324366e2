"""Where examples come from: TFDS sets and own files."""

"""Sources of examples: TFDS sets and the user's own files."""

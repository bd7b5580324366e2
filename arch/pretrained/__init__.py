"""Published networks in Hugging Face's format: one file per architecture, with a table of its weights."""

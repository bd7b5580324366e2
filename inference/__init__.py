"""Use of trained models: predictions for new inputs, generation of text."""

"""Use of trained models: predictions for new inputs, and text generation."""

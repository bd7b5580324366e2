"""Augmentation on the device, inside the compiled step."""

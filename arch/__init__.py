"""Architectures: one file per family, pure Flax linen modules. `layers/` holds what several families share."""

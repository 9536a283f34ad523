"""What networks are built with beside Flax's own layers."""

"""From X and y, as users have them, to tensors."""

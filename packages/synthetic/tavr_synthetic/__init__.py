"""The embedded world: procedural talking heads and the tiny weights trained on them."""

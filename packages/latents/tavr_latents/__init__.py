"""Stage: VAE, text and audio encodings, face boxes and masks, in shards."""

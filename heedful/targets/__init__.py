"""How feedback becomes training rows: text and scores in, per-token streams out. Pure."""

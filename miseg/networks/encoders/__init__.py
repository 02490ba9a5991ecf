"""Encoders of timm: what each gives a decoder, and where their weights come from."""

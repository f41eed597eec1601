"""Texts as data: tokenizers, token ids computed once, and padding."""

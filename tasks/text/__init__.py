"""Texts: vocabularies, and scores of generated texts. Pure Python and numpy."""

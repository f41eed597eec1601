"""Molecules with the electrostatic potential around them: files, checks, splits and what they are compared with."""

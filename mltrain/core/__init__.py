"""Errors, registry, seeding, hardware facts, logging and files: what every floor stands on."""

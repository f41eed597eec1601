"""Benchmarks: `make bench`. A package with this file, since others (opacus) install one of the same name."""

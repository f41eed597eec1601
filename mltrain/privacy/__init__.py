"""Differential privacy: what is drawn, clipped, added, accounted for, stated and audited. `trainers/dp.py` trains with it."""

"""Differential privacy: what is drawn, clipped, added, accounted for, stated and audited; for `trainers/dp.py`."""

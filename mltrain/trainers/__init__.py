"""How one optimizer step is executed, on which devices. `base.py` is the loop that all trainers share."""

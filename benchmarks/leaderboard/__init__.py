"""Every baseline, trained with one budget on the same rows."""

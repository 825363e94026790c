"""Every figure that the documents claim, as a program that measures it: `<area>_<claim>.py`."""

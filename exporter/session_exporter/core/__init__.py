"""The pure core: no input or output, no clock; time is passed in."""

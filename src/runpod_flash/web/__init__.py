"""What everything that answers browsers shares, whichever family it is of: who may ask, and the page of documentation.

Standard library only; it answers nothing itself.
"""

"""What an update costs, measured on the simulated board: `python -m bench`, and `python -m bench heap` for memory alone."""

"""Formulas: NumPy and SciPy in, arrays out. No store, no Ray, no documents' text."""

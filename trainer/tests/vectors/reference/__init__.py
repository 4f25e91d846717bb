"""The computations whose results record.py writes down."""

"""The exact integer graph as frozen data."""

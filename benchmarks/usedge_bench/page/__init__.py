"""A report as one HTML file that opens from disk: its tables, its plots as SVG within, nothing to load."""

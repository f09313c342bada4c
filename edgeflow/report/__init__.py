"""What a user is told: run.json, the terminal's tables, one HTML page."""

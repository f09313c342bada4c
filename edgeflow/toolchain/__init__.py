"""The only place that runs external programs: one module a tool."""

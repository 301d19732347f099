"""The only place that wires things together: one function for each process role."""

"""Real servers that tests start on free ports of 127.0.0.1 and end by their process."""

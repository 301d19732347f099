"""Delivery of events to subscribers: at least once, in order per resource (decision 0028).

`records` is what is kept, `worker` delivers to one subscriber, `deliveries` has all of them.
"""

"""Webhooks: events sent as HTTP requests to the receivers that subscribed. It observes nothing.

`targets` says where may be sent to, `message` what is sent and how it is signed, `client` sends it.
"""

"""What drivers that speak HTTP share: URLs, options of access, one bounded client, a server that misbehaves.

No driver itself: `client` alone imports the HTTP library, and every driver's client is made of it. Nothing is
imported here, so that who needs only `url` loads no library.
"""

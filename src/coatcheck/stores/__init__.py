"""Where sessions and users live: the `Store` protocol in `store`, its implementations in folders of their own."""

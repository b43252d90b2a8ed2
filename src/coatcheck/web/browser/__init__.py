"""The browser client as it is served, built from `clients/browser` by `scripts/browser-client build`."""

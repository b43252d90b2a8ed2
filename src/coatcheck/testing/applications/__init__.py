"""For the tests of applications: their pod on another store, their app opened, devices, and callers that are faked."""

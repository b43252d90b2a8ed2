"""One request on its way: the verdict on its caller, what was sent in answer, and what the response has to carry."""

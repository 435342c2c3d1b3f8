"""Ready scenarios, one function each. Copy one to your own folder to change it."""

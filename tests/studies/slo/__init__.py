"""Whether budgets and their alerts do what they say, on simulated months."""

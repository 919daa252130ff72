"""The canary study: how often the gate is wrong and how fast it is right, simulated, beside replicas of what others do."""

"""The load ladder: levels of users on the public endpoint, with what hosts, GPUs and engines did meanwhile."""

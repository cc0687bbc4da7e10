"""What was brought back from hosts: raw answers, and typed facts read from them. Pure; no judgement, no I/O."""

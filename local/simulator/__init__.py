"""The sources: members, gyms and devices, invented from a seed, and what truly happened to them (the ledger)."""

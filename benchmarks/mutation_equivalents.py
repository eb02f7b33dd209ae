"""Mutants of mutation_score that compute what the original does, with the reason: (module, function, line as it stands, change) -> why."""

EQUIVALENT = {}

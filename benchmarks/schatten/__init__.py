"""How well, and how fast, the Schatten-regularised completion is solved: `dln.schatten` beside its rivals."""

"""One file, one statement: `STATEMENT`, named after its file, with its formulas in functions `claim...`."""

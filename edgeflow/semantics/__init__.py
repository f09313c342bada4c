"""What a graph means: verifier, interpreter, text form, file form."""

"""Translation: one sequence in, another one out, by an encoder, a decoder and attention."""

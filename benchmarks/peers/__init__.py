"""Each peer is an actor: a process of its own, asked by the rows in turn with ours."""

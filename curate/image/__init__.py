"""Image files from strangers: what they are, how large they are, and their pixels as RGB."""

"""What a model costs and where its tokens go."""

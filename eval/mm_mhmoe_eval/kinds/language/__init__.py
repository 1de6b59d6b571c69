"""What tasks of language models share: nats of sequences, and questions with four choices."""

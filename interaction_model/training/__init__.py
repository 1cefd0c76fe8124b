"""Making the native model: speech and scenes drawn by seed, with targets for every micro-turn, and the trainer."""

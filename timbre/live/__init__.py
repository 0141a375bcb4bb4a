"""A sound card's input restored while it comes in, for headphones, calls and virtual microphones."""

"""timbre: repairs the timbre of speech that DeepFilterNet3 has denoised."""

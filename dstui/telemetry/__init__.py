"""Live streams: what hosts, Ray and vLLM say while somebody watches. Latest wins; old values say how old they are."""

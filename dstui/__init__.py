"""dstui: an LLM deployment on Ray and vLLM, brought to a signed-off production state from one terminal."""

__version__ = "0.1.0"

import pytest


def tokenizers_oracle():
    """Hugging Face's `tokenizers`; a test that asks for it is skipped where it is not installed.

    This folder of tests bears its name, and would be imported in its place.
    """
    pytest.importorskip("tokenizers.models")
    return pytest.importorskip("tokenizers")

"""JSON read piece by piece says what the whole says, wherever the pieces end."""

from __future__ import annotations

import io
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ftcot_jax import json_stream
from ftcot_jax.json_stream import JsonStream

TEXTS = st.text('a1"\\é\u2028\ud800 {', max_size=6)
VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.text('a1"\\é\u2028\ud800 {', max_size=6),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text('k"é', max_size=3), inner, max_size=3),
    max_leaves=8,
)


@pytest.fixture(params=[1, 3, 7, 1 << 18])
def chunk(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> int:
    monkeypatch.setattr(json_stream, "_CHUNK", request.param)
    size: int = request.param
    return size


def taken(content: bytes) -> dict[str, tuple[Any, bytes]]:
    """Each key's value, and the bytes of both."""
    stream, found = JsonStream(io.BytesIO(content)), {}
    for key in stream.each_key():
        value = stream.value()
        found[key] = (value, content[stream.key_start : stream.position])
    if stream.peek():
        raise ValueError("more")
    return found


@pytest.mark.usefixtures("chunk")
def test_every_value_and_where_it_stands() -> None:
    @given(st.dictionaries(TEXTS, VALUES, max_size=5), st.sampled_from([None, 0, 3]), st.booleans())
    def check(content: dict[str, Any], indent: int | None, ascii_only: bool) -> None:
        text = json.dumps(content, indent=indent, ensure_ascii=ascii_only).replace("\n", "\r\n")
        for start in (b"", b"\xef\xbb\xbf", b" \n"):
            try:
                found = taken(start + text.encode() + b"\n")
            except UnicodeEncodeError:  # half a pair of surrogates cannot be written but escaped
                return
            assert {key: value for key, (value, _) in found.items()} == content
            assert [json.loads(b"{" + part + b"}") for _, part in found.values()] == [{k: content[k]} for k in found]

    check()


@pytest.mark.usefixtures("chunk")
@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{",
        '{"a": 1',
        '{"a": 1,}',
        '{"a": 1} x',
        '{"a" 1}',
        "{1: 2}",
        '{"a": {"b": 1, "b": 2}}',
        '{"a": "\xff',
    ],
)
def test_what_is_no_json_object_is_refused(text: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - JSON's own, which says nothing of use
        taken(text.encode("latin-1"))


def test_what_was_taken_is_not_held(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(json_stream, "_CHUNK", 100)
    stream = JsonStream(io.BytesIO(json.dumps({str(key): "x" * 50 for key in range(100)}).encode()))
    for _ in stream.each_key():
        assert stream.value() == "x" * 50
        assert len(stream._held) <= 300

"""Promise: the frame around a document is the reader's own chat template, the same every day and for every document."""

from datetime import datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny import TEMPLATES, make_tokenizer

from saeray.readers.template import Frame, Template, TemplateError, frame

TURNS = "{% for message in messages %}"
# As Mistral's: the user's turn is left as it is and the assistant's is trimmed.
MIXED = (
    TURNS + "{% if message['role'] == 'user' %}[INST] {{ message['content'] }}[/INST]"
    "{% else %} {{ message['content'] | trim }}</s>{% endif %}{% endfor %}"
)
# Trims the first turn only, and only on its left the second.
OTHERWISE = (
    TURNS + "{% if loop.first %}<{{ message['content'] | trim }}>"
    "{% else %}<{{ message['content'].lstrip() }}>{% endif %}{% endfor %}"
)
CLOCK = "{{ strftime_now('%d %B %Y') }}: " + TURNS + "{{ message['content'] }}{% endfor %}"
CLOCK_IN_MACRO = "{% macro today() %}{{ strftime_now('%Y-%m-%d') }}{% endmacro %}" + CLOCK.replace(
    "strftime_now('%d %B %Y')", "today()"
)
# Begins with what jinja's white-space rules treat differently at the start of a line.
INDENTED = "\n  {% set x = 1 %}\n  " + TURNS + "\n  <{{ message['content'] }}>\n  {% endfor %}"
ALL = TEMPLATES | {"mixed": MIXED, "otherwise": OTHERWISE, "indented": INDENTED}
PINNED = "26 Jul 2024"

content = st.text(min_size=1, max_size=30).map(lambda text: text.replace("\x00", ""))


def rendered(tokenizer, roles, contents):
    """The template as transformers renders it, given the pinned date in the way that templates document."""
    messages = [{"role": role, "content": text} for role, text in zip(roles, contents, strict=True)]
    return tokenizer.apply_chat_template(messages, tokenize=False, date_string=PINNED)


@pytest.mark.parametrize("name", ALL)
@settings(deadline=None, max_examples=40)
@given(contents=st.lists(content, min_size=2, max_size=4))
def test_slots_render_as_the_template_does(name, contents):
    """Setting contents into slots gives what the tokenizer's own `apply_chat_template` gives, spans included."""
    tokenizer = make_tokenizer(ALL[name])
    roles = tuple(("user", "assistant")[i % 2] for i in range(len(contents)))
    text, spans = frame(tokenizer, roles).render(contents)
    assert text == rendered(tokenizer, roles, contents)
    for i, ((start, stop), one) in enumerate(zip(spans, contents, strict=True)):
        shown = text[start:stop]
        assert shown in one
        offset = frame(tokenizer, roles).offset(i, one)
        assert one[offset : offset + len(shown)] == shown


def test_chatml_frame():
    """ChatML keeps every content as it is, and its default system turn belongs to the frame."""
    assert frame(make_tokenizer("chatml"), ("assistant",)) == Frame(
        ("<|im_start|>system\nYou are tiny.<|im_end|>\n<|im_start|>assistant\n", "<|im_end|>\n"), ((False, False),)
    )


def test_llama3_frame():
    """A template like Llama 3's trims contents, and its date is the pinned one."""
    header = "<|start_header_id|>{}<|end_header_id|>\n\n"
    system = "<|begin_of_text|>" + header.format("system") + f"Today Date: {PINNED}\n\n<|eot_id|>"
    assert frame(make_tokenizer("llama3"), ("assistant",)) == Frame(
        (system + header.format("assistant"), "<|eot_id|>"), ((True, True),)
    )


@pytest.mark.parametrize("template", ["llama3", CLOCK, CLOCK_IN_MACRO])
def test_the_clock_does_not_show(template):
    """A template that prints today's date when it is left alone gives one and the same frame on every day."""
    tokenizer = make_tokenizer(template)
    alone = tokenizer.apply_chat_template([{"role": "user", "content": "x"}], tokenize=False)
    assert datetime.now().strftime("%Y") in alone
    text, _ = frame(tokenizer, ("user",)).render(["x"])
    assert any(day in text for day in (PINNED, "26 July 2024", "2024-07-26"))
    assert datetime.now().strftime("%Y") not in text


REFUSALS = {
    "lone assistant": (TEMPLATES["gemma"], ("assistant",), "refuses the roles assistant: .*must alternate"),
    "many lines": ("{{ raise_exception('one\ntwo') }}", ("user",), "refuses the roles user: one$"),
    "not jinja": ("{% for %}", ("user",), "refuses the roles user: "),
    "drops a turn": (TURNS + "{% if not loop.first %}{{ message['content'] }}{% endif %}{% endfor %}",
                     ("user", "assistant"), "does not show the turn of role 'user'"),
    "out of order": (TURNS.replace("messages", "messages | reverse") + "{{ message['content'] }}{% endfor %}",
                     ("user", "assistant"), "does not show the turn of role 'assistant'"),
    "twice": (TURNS + "{{ message['content'] }} {{ message['content'] }}{% endfor %}", ("user",), "more than once"),
    "cut": (TURNS + "{{ message['content'][:5] }}{% endfor %}", ("user",), "does not show the turn of role 'user'"),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSALS)
def test_what_a_template_cannot_hold_is_one_line(case):
    """A template that refuses roles, or does not show each content once and in order, gives one line and no frame."""
    template, roles, message = REFUSALS[case]
    with pytest.raises(TemplateError, match=message) as caught:
        frame(make_tokenizer(template), roles)
    assert "\n" not in str(caught.value)


def test_refusal_of_a_long_conversation_is_short():
    """The reason among the rejects does not grow with the conversation."""
    with pytest.raises(TemplateError) as caught:
        frame(make_tokenizer("gemma"), ("assistant",) * 5000)
    assert len(str(caught.value)) < 300


@pytest.mark.parametrize("reach", ["cycler.__init__.__globals__.os.system", "''.__class__.__mro__[1].__subclasses__"])
def test_a_template_executes_nothing(tmp_path, reach):
    """A hostile template stays in jinja's sandbox."""
    call = f"{reach}('touch {tmp_path / 'ran'}')"
    template = "{{ " + call + " }}" + TURNS + "{{ message['content'] }}{% endfor %}"
    with pytest.raises(TemplateError):
        frame(make_tokenizer(template), ("user",))
    assert not (tmp_path / "ran").exists()


def test_template_can_be_insisted_on_or_left_out():
    """None follows the tokenizer, False reads raw, True without a template is one line."""
    with_one, without = make_tokenizer("chatml"), make_tokenizer(None)
    assert [Template(with_one).enabled, Template(without).enabled, Template(with_one, False).enabled] == [1, 0, 0]
    with pytest.raises(TemplateError, match="no chat template"):
        Template(without, True)

"""Every sampling option, from the HTTP field to the token, on the default model with OpenAI's client."""
import math

import openai
import pytest

PROMPT = "The three primary colours are"
CHAT = [{"role": "user", "content": "Name a fruit."}]


@pytest.fixture(scope="module")
def client(server):
    return openai.OpenAI(base_url=server.url + "/v1", api_key="none", max_retries=0)


def complete(client, prompt=PROMPT, extra=None, **fields):
    options = dict(model="default", prompt=prompt, temperature=0, max_tokens=16)
    return client.completions.create(**{**options, **fields}, extra_body=extra)


def ids_of(client, **fields):
    extra = {"return_token_ids": True, "ignore_eos": True, **fields.pop("extra", {})}
    return complete(client, extra=extra, **fields).choices[0].token_ids


def test_logprobs_of_a_completion(client):
    choice = complete(client, logprobs=3).choices[0]
    logprobs = choice.logprobs
    assert len(logprobs.tokens) == len(logprobs.token_logprobs) == len(logprobs.top_logprobs) == len(logprobs.text_offset)
    text = choice.text
    for i, token in enumerate(logprobs.tokens):
        end = logprobs.text_offset[i + 1] if i + 1 < len(logprobs.tokens) else len(text)
        assert token.startswith("bytes:") or choice.finish_reason == "stop" and i + 1 == len(logprobs.tokens) or \
            text[logprobs.text_offset[i]:end] == token
        # Greedy: the token is the likeliest, and is listed once.
        assert logprobs.token_logprobs[i] == max(logprobs.top_logprobs[i].values()) == logprobs.top_logprobs[i][token]
        assert len(logprobs.top_logprobs[i]) == 3
        assert sum(math.exp(value) for value in logprobs.top_logprobs[i].values()) <= 1 + 1e-5


def test_logprobs_do_not_depend_on_temperature_nor_bias(client):
    first = complete(client, logprobs=2, max_tokens=1).choices[0].logprobs
    warm = complete(client, logprobs=2, max_tokens=1, temperature=1.7, seed=1, presence_penalty=1, logit_bias={"40": 5}).choices[0].logprobs
    shared = set(first.top_logprobs[0]) & set(warm.top_logprobs[0])
    assert len(shared) >= 2
    assert all(first.top_logprobs[0][token] == warm.top_logprobs[0][token] for token in shared)


def test_logprobs_of_a_chat_streamed_and_whole(client):
    options = dict(model="default", messages=CHAT, temperature=0, max_tokens=12, logprobs=True, top_logprobs=4)
    whole = client.chat.completions.create(**options).choices[0]
    streamed = []
    for chunk in client.chat.completions.create(**options, stream=True):
        if chunk.choices[0].logprobs:
            streamed += chunk.choices[0].logprobs.content
    assert [token.model_dump() for token in streamed] == [token.model_dump() for token in whole.logprobs.content]
    said = b"".join(bytes(token.bytes) for token in whole.logprobs.content).decode()
    assert said.startswith(whole.message.content)
    for token in whole.logprobs.content:
        assert len(token.top_logprobs) == 4
        assert [t.logprob for t in token.top_logprobs] == sorted((t.logprob for t in token.top_logprobs), reverse=True)
        assert bytes(token.bytes).decode(errors="ignore") in token.token


def test_echo_scores_the_prompt_as_generation_scored_it(client, server):
    """What the model gave its own greedy continuation is what it gives it as a prompt."""
    generated = complete(client, logprobs=1, extra={"return_token_ids": True, "ignore_eos": True}).choices[0]
    prompt_ids = server.request("/tokenize", {"prompt": PROMPT})[2]["tokens"]
    tokens = prompt_ids + generated.token_ids
    scored = complete(client, prompt=tokens, echo=True, logprobs=1, max_tokens=0).choices[0]
    assert scored.text == PROMPT + generated.text
    assert scored.logprobs.token_logprobs[0] is None
    assert len(scored.logprobs.tokens) == len(tokens)
    assert scored.logprobs.token_logprobs[len(prompt_ids):] == generated.logprobs.token_logprobs
    again = complete(client, prompt=tokens, max_tokens=1, extra={"prompt_logprobs": 0}).choices[0]
    listed = [next(iter(entry.values()))["logprob"] for entry in again.prompt_logprobs[1:]]
    assert listed == scored.logprobs.token_logprobs[1:]


def test_long_prompts_are_scored_in_pieces(client):
    prompt = list(range(1000, 1500))
    whole = complete(client, prompt=prompt, max_tokens=1, extra={"prompt_logprobs": 1}).choices[0].prompt_logprobs
    assert len(whole) == 500 and whole[0] is None
    part = complete(client, prompt=prompt[:130], max_tokens=1, extra={"prompt_logprobs": 1}).choices[0].prompt_logprobs
    assert part == whole[:130]


def test_several_answers_stream_interleaved_and_equal_the_whole(client):
    options = dict(model="default", prompt=["Once upon a time", "My name is"], n=3, temperature=0.9, seed=11, max_tokens=12)
    whole = client.completions.create(**options)
    assert [choice.index for choice in whole.choices] == list(range(6))
    assert len({choice.text for choice in whole.choices}) > 4
    texts, reasons, usages = [""] * 6, [None] * 6, []
    for chunk in client.completions.create(**options, stream=True, stream_options={"include_usage": True}):
        usages += [chunk.usage] if chunk.usage else []
        for choice in chunk.choices:
            assert reasons[choice.index] is None
            texts[choice.index] += choice.text
            reasons[choice.index] = choice.finish_reason
    assert texts == [choice.text for choice in whole.choices]
    assert reasons == [choice.finish_reason for choice in whole.choices]
    assert len(usages) == 1
    assert usages[0].completion_tokens == whole.usage.completion_tokens
    assert usages[0].prompt_tokens == whole.usage.prompt_tokens
    single = client.completions.create(**{**options, "n": 1})
    assert single.usage.prompt_tokens == whole.usage.prompt_tokens
    assert [single.choices[0].text, single.choices[1].text] == [texts[0], texts[3]]


def test_best_of_sends_the_likeliest(client):
    options = dict(prompt="A short list:", temperature=1.0, seed=3, max_tokens=10, extra={"ignore_eos": True})
    answers = complete(client, n=5, logprobs=0, **options).choices
    likeliest = max(answers, key=lambda choice: sum(choice.logprobs.token_logprobs))
    best = complete(client, n=1, best_of=5, **options)
    assert best.choices[0].text == likeliest.text
    assert best.usage.completion_tokens == 50


def test_logit_bias_bans_and_forces(client):
    first = ids_of(client)[0]
    assert ids_of(client, logit_bias={str(first): -100})[0] != first
    assert ids_of(client, logit_bias={"1234": 100}) == [1234] * 16


def test_penalties_end_repetition(client):
    prompt = "la la la la la la la la"
    plain = ids_of(client, prompt=prompt, max_tokens=40)
    for fields in ({"presence_penalty": 2}, {"frequency_penalty": 2}, {"extra": {"repetition_penalty": 1.8}}):
        penalised = ids_of(client, prompt=prompt, max_tokens=40, **fields)
        assert len(set(penalised)) > len(set(plain)), fields
    # A frequency penalty below zero is an invitation.
    assert len(set(ids_of(client, prompt=prompt, max_tokens=40, frequency_penalty=-2))) <= len(set(plain))


def test_dry_forbids_what_was_said_before(client):
    def repeated_triples(extra):
        tokens = ids_of(client, prompt="one two three four, one two three four, one two", max_tokens=60, extra=extra)
        triples = list(zip(tokens, tokens[1:], tokens[2:]))
        return len(triples) - len(set(triples))

    dry = {"dry_multiplier": 100, "dry_base": 1, "dry_allowed_length": 2}
    assert repeated_triples({}) > 0
    assert repeated_triples({**dry, "dry_sequence_breakers": []}) == 0
    # Where every token breaks there is no sequence to repeat.
    assert repeated_triples({**dry, "dry_sequence_breakers": [" ", ",", *"abcdefghijklmnopqrstuvwxyz"]}) > 0


@pytest.mark.parametrize("extra", [{"min_p": 1.0}, {"top_k": 1}, {"min_p": 0.999, "typical_p": 1.0}])
def test_filters_that_leave_one_token_are_greedy(client, extra):
    assert ids_of(client, temperature=1.5, seed=5, extra=extra) == ids_of(client)


def test_a_narrow_nucleus_is_greedy(client):
    assert ids_of(client, temperature=1.0, top_p=1e-6, seed=5) == ids_of(client)


def test_typical_sampling_differs_and_repeats(client):
    warm = [ids_of(client, temperature=1.5, seed=5, extra={"typical_p": p}) for p in (0.2, 0.2, 1.0)]
    assert warm[0] == warm[1] != warm[2]


def test_min_tokens_puts_the_end_off(client, server):
    prompt_ids = server.request("/tokenize", {"messages": CHAT})[2]["tokens"]
    ended = complete(client, prompt=prompt_ids, max_tokens=200, extra={"return_token_ids": True}).choices[0]
    assert ended.finish_reason == "stop"
    length = len(ended.token_ids)
    longer = complete(client, prompt=prompt_ids, max_tokens=200, extra={"min_tokens": length + 5, "return_token_ids": True}).choices[0]
    assert len(longer.token_ids) > length + 5 or longer.finish_reason == "length"
    assert longer.token_ids[:length - 1] == ended.token_ids[:-1]


def test_stop_tokens_and_the_stop_string_kept(client):
    ids = ids_of(client)
    stopped = complete(client, extra={"stop_token_ids": [ids[5]], "return_token_ids": True, "ignore_eos": True}).choices[0]
    assert stopped.token_ids == ids[:ids.index(ids[5]) + 1]
    assert stopped.finish_reason == "stop"
    text = complete(client, extra={"ignore_eos": True}).choices[0].text
    stop = text[4:7]
    cut = complete(client, stop=stop, extra={"ignore_eos": True}).choices[0].text
    kept = complete(client, stop=stop, extra={"ignore_eos": True, "include_stop_str_in_output": True}).choices[0].text
    assert (cut, kept) == (text[:text.index(stop)], text[:text.index(stop) + len(stop)])


def test_special_tokens_show_when_asked(client, server):
    end = server.request("/tokenize", {"prompt": "<|im_end|>"})[2]["tokens"]
    assert len(end) == 1
    fields = dict(logit_bias={str(end[0]): 100}, max_tokens=3)
    assert complete(client, extra={"ignore_eos": True}, **fields).choices[0].text == ""
    assert complete(client, extra={"ignore_eos": True, "skip_special_tokens": False}, **fields).choices[0].text == "<|im_end|>" * 3


def test_ids_stand_for_tokens(client):
    choice = complete(client, logprobs=1, extra={"return_tokens_as_token_ids": True, "return_token_ids": True, "ignore_eos": True}).choices[0]
    assert choice.logprobs.tokens == [f"token_id:{token}" for token in choice.token_ids]
    assert choice.prompt_token_ids


def test_a_seed_gives_the_same_tokens_in_any_company(client, server):
    """Alone, among others with every option on, and after a change of the configuration."""
    import concurrent.futures
    extra = {"repetition_penalty": 1.1, "min_p": 0.02, "dry_multiplier": 0.5, "min_tokens": 10}
    ask = lambda seed: ids_of(client, temperature=1.0, seed=seed, max_tokens=24, frequency_penalty=0.2, extra=extra)
    alone = [ask(seed) for seed in range(4)]
    noise = lambda i: complete(client, prompt=list(range(500 + i, 560 + 3 * i)), temperature=1.3, n=2, logprobs=5, max_tokens=20)
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        others = [pool.submit(noise, i) for i in range(8)]
        mine = [pool.submit(ask, seed) for seed in range(4)]
        assert [future.result() for future in mine] == alone
        [future.result() for future in others]
    assert len({tuple(tokens) for tokens in alone}) == 4


def test_labels_change_nothing(client):
    labelled = client.chat.completions.create(model="default", messages=CHAT, temperature=0, max_completion_tokens=8,
                                              user="someone", metadata={"a": "b"}, extra_body={"priority": 3})
    plain = client.chat.completions.create(model="default", messages=CHAT, temperature=0, max_completion_tokens=8)
    assert labelled.choices[0].message.content == plain.choices[0].message.content
    assert labelled.usage.completion_tokens <= 8

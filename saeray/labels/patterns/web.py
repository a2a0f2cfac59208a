"""The web and chat: addresses, handles, emoji, turns of speakers."""

from __future__ import annotations

from saeray.labels.patterns.base import Pattern

WEB = (
    Pattern(
        "url",
        "web addresses, URLs",
        "in a web address",
        r"https?://\S*|www\.\S+|\b\w+\.(?:com|org|net|edu|gov)\b\S*",
        1,
        ("://", "www.", ".com", ".org", ".net", ".edu", ".gov"),
    ),
    Pattern("email", "e-mail addresses", "", r"[\w.+-]{1,40}@\w[\w-]*\.\w+|<email>", 1, ("@", "<email>")),
    Pattern("mention", "@mentions of users", "", r"(?<!\w)@ ?\w+", 1, ("@",)),
    Pattern("hashtag", "hashtags", "in a hashtag", r"(?<!\S)#[A-Za-z]\w*", 1, ("#",)),
    Pattern("emoji", "emoji", "", r"[\U0001f300-\U0001faff\u2600-\u27bf\ufe0f]+|(?<!\w)[:;]-?[)(DP](?!\w)", 1),
    Pattern(
        "retweet",
        "tweets, short social media posts",
        "in a tweet",
        r"(?<!\w)@user\b|(?<!\S)#\w+[^\n]*\Z|… ?\Z",
        1,
        ("@", "#", "…"),
    ),
    Pattern(
        "speaker_turns",
        "chat transcripts with speaker turns",
        "in a chat transcript",
        r"^[ \t]*(?:Human|Assistant|User|AI|Bot|Person ?\d?|[A-Z]|Guy|Girl|Man|Woman)(?: ?#\d)?:",
        2,
        (":",),
        joined=True,
    ),
    Pattern(
        "play_script",
        "play or drama scripts with speaker names",
        "in a play script",
        r"^[A-Z][A-Za-z. ]{2,24}:$|^[A-Z][A-Z. ]{2,24}: ",
        2,
        (":",),
        joined=True,
    ),
    Pattern(
        "stage_direction",
        "stage directions or bracketed remarks",
        "",
        r"^\[[^\]\n]+\]|\([a-z][^)\n]{3,60}\.\)|\*[a-z ]{4,40}\*",
        1,
        ("[", "(", "*"),
    ),
)

"""What regular expressions can tell of a text: markup, code and its language, marks, set phrases, kinds of document."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cached_property

Spans = list[tuple[int, int]]


@dataclass(frozen=True)
class Pattern:
    """`least` matches of `regex` make a text have the property; `needs`: one of these strings must be there (a cheap
    look before the expression is run). `joined`: the place from the first to the last match counts as inside.
    A group in `regex` is the place where the whole match is only what it is found by."""

    name: str
    label: str
    setting: str
    regex: str
    least: int = 1
    needs: tuple[str, ...] = ()
    spot: bool = False
    joined: bool = False
    flags: int = re.M

    @cached_property
    def compiled(self) -> re.Pattern[str]:
        return re.compile(self.regex, self.flags)

    def find(self, text: str) -> Spans:
        """Characters (start, end) of the matches."""
        if self.needs and not any(need in text for need in self.needs):
            return []
        found = [match.span(match.lastindex or 0) for match in self.compiled.finditer(text)]
        if self.joined and len(found) > self.least:
            whole = (found[0][0], found[-1][1])
            return [whole, *([(whole[1], whole[1])] * (len(found) - 1))]
        return found


def _code(name: str, label: str, regex: str, needs: tuple[str, ...], least: int = 3) -> Pattern:
    return Pattern(f"code_{name}", f"{label} code", f"in {label} code", regex, least, needs, joined=True)


def _said(name: str, label: str, setting: str, regex: str, needs: tuple[str, ...] = (), least: int = 1) -> Pattern:
    return Pattern(name, label, setting, regex, least, needs, flags=re.M | re.I)


PATTERNS = (
    # Code
    _code(
        "python",
        "Python",
        r"^[ \t]*(?:def \w+\(|class \w+.*:$|import \w+|from [\w.]+ import|elif |except\b.*:$|if .*:$|for \w+ in .*:$"
        r"|return\b|@\w+)|\bself\.|\bNone\b|^>>> |\bprint\(",
        ("def ", "import ", "self", ">>>", "print("),
    ),
    _code(
        "java",
        "Java",
        r"\b(?:public|private|protected) (?:static |final |abstract )*[\w<>\[\]]+|\bimport java|\bSystem\.out|@Override"
        r"|\bnew \w+\(.*\);",
        ("public ", "private ", "System.out", "java"),
    ),
    _code(
        "rust",
        "Rust",
        r"\bfn \w+|\blet (?:mut )?\w+|\bimpl\b|\bpub (?:fn|struct|enum|mod)|&mut |println!|::new\(|\buse \w+::|#\[\w+",
        ("fn ", "let ", "impl", "::"),
    ),
    _code(
        "javascript",
        "JavaScript",
        r"\bfunction\s*\w*\(|\b(?:const|let|var) \w+ =|=> ?\{|console\.log|document\.|\brequire\(|===",
        ("function", "const ", "var ", "=>"),
    ),
    _code(
        "c",
        "C or C++",
        r"#include\s*<|\bstd::|\bint main\(|\bprintf\(|\bcout\b|->\w+|\bvoid \w+\(|\bchar \*",
        ("#include", "std::", "printf(", "cout", "->"),
    ),
    _code(
        "go",
        "Go",
        r"\bfunc (?:\(\w+ \*?\w+\) )?\w+\(|:= |\bpackage \w+$|\bif err != nil|\bfmt\.\w+",
        ("func ", ":=", "package "),
    ),
    _code(
        "sql",
        "SQL",
        r"\bSELECT\b|\bFROM \w+|\bWHERE\b|\bINSERT INTO\b|\bCREATE TABLE\b|\bGROUP BY\b|\bPRIMARY KEY\b|\bJOIN\b",
        ("SELECT", "CREATE TABLE", "INSERT"),
        2,
    ),
    _code("html", "HTML or XML", r"</?[a-zA-Z][\w:-]*(?:\s[^<>]*)?>", ("</", "<")),
    _code(
        "shell",
        "shell command",
        r"^[ \t]*\$ \w+|\bsudo \w|^[ \t]*(?:pip|npm|git|cargo|kubectl|curl|apt-get|docker|python|cd|export|echo"
        r"|bash) \S+|^#!/",
        ("$ ", "sudo", "pip ", "git ", "kubectl ", "curl ", "docker", "cargo ", "python ", "#!/", "export "),
        2,
    ),
    _code("yaml", "YAML", r"^[ \t]*(?:- )?[\w./-]+:(?: [^\s].{0,60})?$", (":\n",), 5),
    _code("json", "JSON", r"^[ \t]*\"[\w$ -]+\":\s|[{,]\s*\"\w+\":", ('":', '" :')),
    _code("css", "CSS", r"^[.#]?[\w-]+ ?\{$|\b[\w-]+: [^;{}\n]+;$", ("{",)),
    Pattern(
        "code_any",
        "program code",
        "in program code",
        r"^.*(?:[;{}]|\)\s*:|\w\(\w*\)|\w+ = .+[\w)\]\"'])\s*$",
        4,
        ("(", "{", " = "),
        joined=True,
    ),
    Pattern(
        "code_comment",
        "comments in code",
        "in code comments",
        r"^[ \t]*(?://|#(?!#| ?\d|include)|/\*|\*)\s.*$|\"\"\"[^\"]*(?:\"\"\")?",
        2,
        ("//", "# ", "/*", '"""'),
    ),
    Pattern("code_call", "function calls in code", "", r"\w\(\)|\w\.\w+\(", 1, ("(",)),
    Pattern(
        "code_block",
        "blocks of program code in Markdown fences",
        "inside a code block",
        r"^ *```[\s\S]*?(?:^ *```|\Z)",
        1,
        ("```",),
    ),
    Pattern("code_inline", "inline code in backticks", "in inline code", r"(?<!`)`[^`\n]+`(?!`)", 1, ("`",)),
    Pattern(
        "file_path",
        "file names and paths",
        "in file paths",
        r"(?<![\w/.-])[\w.-]*(?:/[\w.-]+){2,}|(?<!\w)\w+\.(?:py|rs|js|java|md|txt|json|yaml|yml|html|csv|go|sh"
        r"|toml|cfg)\b",
        1,
        ("/", "."),
    ),
    Pattern("command_option", "command-line options", "", r"(?<=\s)--[a-z][\w-]+", 1, ("--",)),
    Pattern("assignment", "assignments with =", "", r"\b[\w\])]+ ?= ?[^=\n]", 3, ("=",)),
    # Markdown
    Pattern(
        "markdown_table", "Markdown tables", "in a Markdown table", r"^ *\|.*\|.*$|^[^|\n]+\|[^|\n]+\|.*$", 2, ("|",)
    ),
    Pattern("markdown_bold", "bold text in Markdown", "in bold", r"\*\*[^*\n]+\*\*|__[^_\n]+__", 1, ("**", "__")),
    Pattern(
        "markdown_italic",
        "emphasis with single asterisks or underscores",
        "in emphasis",
        r"(?<![\w*])\*[^*\s][^*\n]*\*(?![\w*])|(?<![\w_])_[^_\s][^_\n]*_(?![\w_])",
        1,
        ("*", "_"),
    ),
    Pattern("markdown_heading", "section headings in Markdown", "in a heading", r"^#{1,6} .+$", 1, ("# ",)),
    Pattern("bullet_list", "bulleted lists", "in a bulleted list", r"^[ \t]*[-*•+] +\S.*$", 2, ("- ", "* ", "•", "+ ")),
    Pattern(
        "bullet_mark",
        "bullets at the start of list items",
        "",
        r"^[ \t]*[-*•+] +\S+",
        2,
        ("- ", "* ", "•", "+ "),
        spot=True,
    ),
    Pattern(
        "numbered_list",
        "numbered lists, numbered steps",
        "in a numbered list",
        r"^[ \t]*\d{1,2}[.)] +\S.*$",
        2,
        (". ", ") "),
    ),
    Pattern("number_mark", "numbers at the start of list items", "", r"^[ \t]*\d{1,2}[.)]", 2, (".", ")"), spot=True),
    Pattern(
        "item_first_word",
        "first word of a list item",
        "at the start of a list item",
        r"^[ \t]*(?:[-*•+]|\d{1,2}[.)]) +(\S+)",
        2,
        ("- ", "* ", "• ", ". "),
        spot=True,
    ),
    Pattern("block_quote", "block quotations in Markdown", "in a block quotation", r"^> .*$", 1, ("> ",)),
    Pattern("markdown_link", "links in Markdown", "in a link", r"\[[^\]\n]+\]\([^)\n]+\)", 1, ("](",)),
    Pattern(
        "horizontal_rule",
        "rule lines of dashes or equals signs",
        "",
        r"^ *[-=_*~]{4,} *$",
        1,
        ("----", "====", "____", "****", "~~~~"),
    ),
    Pattern(
        "title_heading",
        "wiki-style headings with equals signs",
        "in a wiki heading",
        r"^ *=+ [^=\n]+ =+ *$",
        1,
        (" =",),
    ),
    Pattern(
        "short_label",
        "labels with a colon at the start of a line",
        "before a colon",
        r"^[ *#\w-]{0,3}[A-Z][\w ]{1,28}(?=:)",
        2,
        (":",),
    ),
    # Mathematics and numbers
    Pattern(
        "latex",
        "LaTeX mathematics",
        "in LaTeX",
        r"\$[^$\n]*[\\^_{}=][^$\n]*\$|\\(?:frac|sqrt|begin|end|alpha|beta|sum|int|text|left|cdot|times|mathbf"
        r"|mathrm|mathcal|phi|lambda|mu|gamma|sigma|pi)\b|\\[\[\](]",
        1,
        ("\\", "$"),
    ),
    Pattern(
        "equation",
        "equations and arithmetic",
        "in equations",
        r"\d\s*[-+*/×÷x^]\s*\$?\d[^\n]{0,30}?=|=\s*\$?\d|\b[a-z] ?= ?[-\d]",
        1,
        ("=",),
    ),
    Pattern("number", "numbers in digits", "", r"\d[\d.,]*", 3),
    Pattern("big_number", "large numbers with thousands separators", "", r"\b\d{1,3}(?:,\d{3})+\b", 1, (",",)),
    Pattern("decimal", "decimal numbers", "", r"\b\d+\.\d+\b", 1, (".",)),
    Pattern(
        "fraction_ratio",
        "fractions, ratios and scores such as 3/4 or 2-1",
        "",
        r"\b\d{1,3}[/:-]\d{1,3}\b",
        1,
        ("/", ":", "-"),
    ),
    Pattern("year", "years such as 1999", "", r"\b(?:1[5-9]\d\d|20\d\d)s?\b", 1, ("1", "2")),
    Pattern(
        "date",
        "dates",
        "in dates",
        r"\b\d{1,2}(?:st|nd|rd|th)? (?:Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec)\w*|\b(?:Jan|Feb|Mar|Apr"
        r"|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec)\w*\.? \d{1,2}\b|\b\d{4}-\d\d-\d\d\b|\b\d{1,2}/\d{1,2}/\d{2,4}\b",
    ),
    Pattern("clock", "clock times", "", r"\b\d{1,2}:\d\d\b|\b\d{1,2} ?[ap]\.?m\b", 1, (":", "m")),
    Pattern(
        "currency",
        "amounts of money",
        "in amounts of money",
        r"[$£€¥₦] ?\d[\d.,]*(?: ?(?:million|billion|bn|m|k)\b)?|\b\d[\d.,]{0,12} (?:dollars|euros|pounds|cents)\b",
        1,
        ("$", "£", "€", "¥", "₦", "dollar", "euro", "pound", "cents"),
    ),
    Pattern("percent", "percentages", "", r"\d(?:\.\d+)? ?(?:%|percent|per cent)", 1, ("%", "per")),
    Pattern(
        "units_of_measure",
        "measurements with units",
        "",
        r"\b\d[\d.,]{0,12} ?(?:km|kg|cm|mm|m|g|mph|ft|feet|inches|miles|degrees|°C|°F|hours|minutes|metres|meters"
        r"|kilometres|GB|MB|Hz|ml)\b",
    ),
    Pattern("ordinal", "ordinal numbers such as 19th", "", r"\b\d+(?:st|nd|rd|th)\b", 1, ("st", "nd", "rd", "th")),
    Pattern(
        "multiple_choice",
        "multiple-choice options A, B, C, D",
        "in multiple-choice options",
        r"(?:^|[\s,'\"(\[])[A-E][).]\s?\S",
        3,
        (")", "."),
        joined=True,
    ),
    # Marks
    Pattern("question", "questions", "in a question", r"[^.!?\n]*\?", 1, ("?", "？")),
    Pattern("question_mark", "question marks", "", r"\?", 1, ("?",)),
    Pattern("exclamation", "exclamation marks", "in an exclamation", r"[^.!?\n]*!", 1, ("!",)),
    Pattern("many_exclamations", "text full of exclamation marks", "", r"!", 4, ("!",)),
    Pattern("ellipsis", "ellipses, trailing off with dots", "before an ellipsis", r"\w*\s?(?:\.\.+|…)", 1, ("..", "…")),
    Pattern("parenthesis", "text in parentheses", "in parentheses", r"\([^()\n]{2,120}\)?", 1, ("(",)),
    Pattern("bracket", "square brackets", "in square brackets", r"\[[^\]\n]{0,80}\]", 1, ("[",)),
    Pattern("semicolon", "semicolons", "", r";", 1, (";",)),
    Pattern("colon", "colons", "", r":", 1, (":",)),
    Pattern("before_colon", "last word before a colon", "before a colon", r"[\w*)\]]+(?=:)", 1, (":",), spot=True),
    Pattern("before_comma", "word before a comma", "before a comma", r"\w+(?=,)", 1, (",",), spot=True),
    Pattern(
        "before_stop",
        "last word of a sentence",
        "at the end of a sentence",
        r"[^\W\d]\w*(?=[.!?](?:\s|$))",
        1,
        (".", "!", "?"),
        spot=True,
    ),
    Pattern("dash", "dashes between clauses", "", r" [-–—]+ |—|--", 1, ("-", "–", "—")),
    Pattern(
        "hyphenated", "hyphenated compounds", "in hyphenated compounds", r"\b[A-Za-z]+(?:-[A-Za-z]+)+\b", 1, ("-",)
    ),
    Pattern("slash", "words joined by a slash", "", r"\b[A-Za-z]+/[A-Za-z]+\b", 1, ("/",)),
    Pattern(
        "quotation",
        "quoted speech, quotations",
        "in a quotation",
        r"[\"“][^\"”\n]{2,400}[\"”]|``[^`\n]{2,400}''|(?<!\w)[‘'][A-Z][^'\n]{6,200}[,.!?]['’]",
        1,
        ('"', "“", "``", "'", "‘"),
    ),
    Pattern(
        "dialogue",
        "dialogue with quoted speech",
        "in dialogue",
        r"[,.!?]['’”\"]+ (?:[a-z]+ ){0,3}(?:said|asked|replied|cried|answered|he|she|I)\b|^[\"“]",
        2,
        ('"', "”", "'", "’", "“"),
    ),
    Pattern(
        "scare_quote",
        "single words in quotation marks",
        "in quotation marks",
        r"[\"“‘'](?:[A-Za-z-]+ ?){1,3}[\"”’'](?!\w)",
        1,
        ('"', "“", "‘", "'"),
    ),
    Pattern("possessive", "possessives with apostrophe s", "", r"\w+['’]s\b", 1, ("'", "’")),
    Pattern(
        "contraction",
        "contractions such as don't and I'm",
        "",
        r"\b\w+(?:n['’]t|['’](?:re|ve|ll|m|d))\b",
        1,
        ("'", "’"),
    ),
    Pattern("spaced_marks", "punctuation set apart by spaces", "", r"\w [,.!?;:] ", 3, (" ,", " .", " ?", " !")),
    Pattern("initials", "initials and abbreviations such as U.S. or J. K.", "", r"\b[A-Z]\.(?: ?[A-Z]\.)*", 1, (".",)),
    Pattern(
        "enumeration",
        "series of items with commas and a final and",
        "in a series of items",
        r"\b\w+(?:, \w+(?: \w+)?){1,6},? (?:and|or) \w+",
        1,
        (",",),
    ),
    # Web and chat
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
    # Set phrases
    _said(
        "refusal",
        "refuses or says it is unable to do the task",
        "in refusals",
        r"\bI(?:'m| am)? (?:sorry|unable|not able|cannot|can['’]t|apologi[sz]e|won['’]t)\b|\bcannot (?:help"
        r"|assist|provide)|\bI don['’]t (?:have|feel)",
        ("I ", "I'm", "annot", "i "),
    ),
    _said(
        "ai_self",
        "says that it is an AI language model",
        "where an AI speaks of itself",
        r"\b(?:as )?an AI\b|\bAI (?:language )?model|language model\b",
        ("AI", "language model"),
    ),
    _said(
        "open_affirm",
        "opens with an affirmation such as Sure or Certainly",
        "in an affirmative opening",
        r"\A\W*(?:sure|certainly|of course|absolutely|yes|definitely|great|okay|here is|here are|here's|i'd be"
        r" happy)\b.{0,60}",
    ),
    _said(
        "close_offer",
        "closes by offering more help",
        "in a closing offer of help",
        r"let me know\b.*|feel free to\b.*|\bhope (?:this|that|it) helps\b.*|any (?:other|more|further)"
        r" questions.*|happy to help.*|if you (?:need|have) any.*",
        ("et me", "eel free", "ope ", "ny ", "appy", "f you"),
    ),
    Pattern("ends_question", "ends with a question", "", r"[^.!?\n]*\?[\"'”’)\s]*\Z", 1, ("?",), flags=0),
    _said(
        "greeting",
        "greetings: hello, hi, dear",
        "in a greeting",
        r"\b(?:hello|hi there|hi|hey|dear|good (?:morning|evening|afternoon)|welcome to)\b",
    ),
    _said("thanks", "thanks", "in thanks", r"\bthank(?:s| you)\b", ("hank",)),
    _said(
        "letter_close",
        "letter sign-offs: sincerely, regards",
        "",
        r"\b(?:sincerely|best regards|kind regards|yours (?:truly|faithfully)|warm regards|\[your name\])",
        ("incerely", "egards", "ours ", "our name"),
    ),
    _said(
        "self_correction",
        "second thoughts: wait, actually, hmm",
        "in second thoughts",
        r"\b(?:wait|actually|hmm+|let me (?:re|check|think)|on second thought|no,|oops|i mean)\b",
    ),
    _said(
        "step_by_step",
        "step-by-step reasoning",
        "in step-by-step reasoning",
        r"\bstep \d|\bfirst(?:ly)?,|\bsecond(?:ly)?,|\bnext,|\bthen,? we\b|\btherefore\b|\bfinally,|step by step",
        (),
        2,
    ),
    _said(
        "conclusion",
        "conclusions and summaries",
        "in a conclusion",
        r"\bin (?:conclusion|summary|short)\b|\bto (?:sum up|summari[sz]e|conclude)\b|\boverall\b|\bultimately\b",
    ),
    _said(
        "opinion",
        "personal opinions: I think, in my view",
        "in opinions",
        r"\bI (?:think|believe|feel|guess|suppose|agree|disagree)\b|\bin my (?:opinion|view)\b|\bIMHO\b|\bpersonally\b",
    ),
    _said(
        "wish_plan",
        "intentions: going to, want to, would like",
        "",
        r"\b(?:going to|want to|wants to|plan to|would like to|decided to|try to|trying to)\b",
    ),
    _said("conditional", "conditions: if, unless", "in conditions", r"\b(?:if|unless|provided that|in case|whether)\b"),
    _said(
        "purpose",
        "purpose: in order to, so that",
        "",
        r"\b(?:in order to|so that|so as to|for the purpose of|aims? to|designed to)\b",
    ),
    _said(
        "such_as",
        "examples after such as",
        "after ‘such as’",
        r"\b(?:such as|including|for example,|for instance,|e\.g\.,?)(?: \w+,?){1,4}",
    ),
    _said(
        "passive", "passive voice", "", r"\b(?:is|was|were|are|been|be|being) \w+(?:ed|en|wn)\b", ("ed", "en", "wn"), 2
    ),
    _said(
        "past_tense",
        "past-tense narration",
        "",
        r"\b(?:was|were|had|did|\w{3,}ed|went|came|said|saw|took|made|got|knew|felt|told)\b",
        (),
        8,
    ),
    _said("progressive", "verbs in -ing", "", r"\b\w{3,}ing\b", ("ing",), 3),
    _said("adverb", "adverbs in -ly", "", r"\b\w{3,}ly\b", ("ly",), 2),
    _said(
        "superlative",
        "superlatives",
        "",
        r"\b(?:the )?(?:most|least|best|worst|\w{3,}est)\b",
        ("est", "most", "least", "worst"),
    ),
    _said(
        "imperative_start",
        "commands and instructions",
        "in instructions",
        r"(?:^|[.:!] |^[ \t]*(?:\d+[.)]|[-*•]) *)(?:use|make|try|add|take|get|keep|be|write|create|find|go|look"
        r"|give|let|put|set|choose|consider|do not|don't|remember|ensure|check|place|mix|stir|click|run|open|see"
        r"|start|avoid|include)\b",
    ),
    # Kinds of document
    _said(
        "prompt_request",
        "requests or instructions to an assistant",
        "in a request",
        r"\A\W*(?:write|give|explain|describe|create|generate|list|make|tell|suggest|what|how|can you|please|find"
        r"|identify|design|summari[sz]e|rewrite|translate|classify)\b.{0,80}",
    ),
    Pattern(
        "citation",
        "scholarly citations such as et al. or [1]",
        "in citations",
        r"\bet al\b\.?|\[\d+(?:[,–-] ?\d+)*\]|\([A-Z]\w+(?: (?:and|&) \w+| et al\.?)?,? \d{4}\w?(?:[;,][^)]*)?\)",
        1,
        ("et al", "[", "("),
    ),
    _said(
        "academic",
        "academic abstracts, scientific papers",
        "in scientific papers",
        r"\bwe (?:show|propose|present|study|find|demonstrate|investigate|consider|prove|derive|report)\b|\bin"
        r" this (?:paper|work|study)\b|\b(?:results|analysis|experiments?) (?:show|suggest|indicate|were)\b"
        r"|\bprevious(?:ly)? (?:stud|work|report|described)|\bet al\b",
        (),
        2,
    ),
    _said(
        "legal",
        "legal boilerplate",
        "in legal boilerplate",
        r"\b(?:hereby|herein|thereof|pursuant|notwithstanding|hereinafter|therein|the parties|set forth|in"
        r" accordance with|liable|indemnif\w+|warrant(?:y|ies)|shall not|terms of (?:service|use))\b",
        (),
        2,
    ),
    _said(
        "news_report",
        "news reports",
        "in news reports",
        r"\bsaid (?:on )?(?:mon|tues|wednes|thurs|fri|satur|sun)day\b|\b(?:told|according to) (?:the"
        r" )?(?:[A-Z]\w+|reporters|officials)|\((?:AP|Reuters|CNN|AFP)\)|\bspokes(?:man|woman|person)\b"
        r"|\bofficials said\b|\bhe said\b|\bsays (?:he|she|the)\b",
    ),
    Pattern(
        "dateline",
        "news datelines such as LONDON (Reuters) -",
        "in a news dateline",
        r"^[A-Z][A-Za-z., ]{2,30}\((?:AP|Reuters|CNN|AFP|Reuters)\)|^[A-Z]{3,}[A-Z., ]* (?:--|-|—|–) ",
        1,
        ("(", "-", "—", "–"),
    ),
    _said(
        "speech",
        "political speeches to citizens",
        "in political speeches",
        r"\bmy fellow|\bfellow[ -]citizens\b|\bour (?:nation|country|people|government)\b|\bthe congress\b|\bmr\."
        r" (?:speaker|president)|\bamerican people\b",
        (),
        2,
    ),
    _said(
        "biography",
        "biographies: born, died, career",
        "in biographies",
        r"\b(?:was )?born (?:in|on|at)\b|\bdied (?:in|on|at)\b|\bhe (?:was|became|attended|graduated|served)\b"
        r"|\bshe (?:was|became|attended|graduated|served)\b|\(\d{4} ?[-–] ?\d{4}\)",
        (),
        2,
    ),
    _said(
        "story_opening",
        "stories: once upon a time",
        "in stories",
        r"\bonce upon a time\b|\bthere (?:was|lived|once)\b|\bone (?:day|night|morning)\b|\bhappily ever\b"
        r"|\bsuddenly\b",
    ),
    _said(
        "word_problem",
        "maths word problems",
        "in maths word problems",
        r"\bhow (?:many|much)\b|\bin total\b|\b(?:altogether|each|twice|half) (?:as|of|the|day|week)\b|\b\d+"
        r" (?:more|less|fewer|times)\b|\bthe answer is\b",
        (),
        2,
    ),
    _said(
        "recipe",
        "cooking recipes",
        "in recipes",
        r"\b\d+(?:/\d+)? (?:cups?|tablespoons?|teaspoons?|tbsp|tsp|ounces?|oz|cloves?|minutes|grams?|g|ml)\b"
        r"|\bpreheat\b|\bserves \d",
        ("cup", "spoon", "tsp", "oz", "ounce", "clove", "minute", "gram", " g ", "ml", "reheat", "erve"),
        3,
    ),
    _said(
        "definition",
        "definitions: is a, refers to, known as",
        "in definitions",
        r"\b(?:is|are) (?:an?|the) (?:type|kind|form|process|method|term|way|set|group)\b|\brefers? to\b"
        r"|\b(?:also )?(?:known|referred to|defined) as\b|\bmeans (?:that|the|to)\b",
    ),
    _said(
        "sports_score",
        "match results and scores",
        "in match reports",
        r"\b\d{1,3}[-–]\d{1,3}\b.{0,40}\b(?:win|victory|loss|lead|defeat|draw|over)\b|\b(?:beat|defeated|scored"
        r"|won)\b.{0,40}\b\d",
    ),
    _said(
        "thread_reply",
        "forum or mailing-list posts",
        "in forum posts",
        r"\bin article\b|\bwrites:|\bwrote:|\bposted\b|\bnewsgroup|\bhas anyone\b|\bdoes anyone\b|\bthanks in"
        r" advance\b|\banybody\b",
    ),
    _said(
        "bug_report",
        "software bug reports",
        "in bug reports",
        r"\bbug\b|\bcrash(?:es|ed)?\b|\bdoes(?:n't| not) work\b|\bfix(?:ed)?\b|\berror\b|\bbroken\b",
        (),
        2,
    ),
    _said(
        "license_header",
        "copyright and licence notices in source files",
        "in licence notices",
        r"\bcopyright\b|\blicensed under\b|\ball rights reserved\b|apache license|spdx-",
        ("opyright", "icense", "ights reserved", "SPDX"),
    ),
    _said(
        "verse",
        "poems, verse or song lyrics in short lines",
        "in poems",
        r"^[A-Z'\"“][^\n.]{10,45}[,;!?.]?\n(?=[A-Z'\"“][^\n.]{10,45}[,;!?.]?\n)",
        ("\n",),
        3,
    ),
)

"""Ways of speaking as lists of words, so that a label can say "hedging" where the words say perhaps, might, seems.

Each is short and modest: a sample of everyday words, lower-cased, no stems.
"""

from __future__ import annotations

#: name: (label, setting, words). The label stands alone; the setting follows a word ("‘we’ ...").
MANNER: dict[str, tuple[str, str, str]] = {
    "articles": ("articles: the, a, an", "", "the a an"),
    "prepositions": (
        "prepositions: of, in, to",
        "",
        "of in to for on with at by from into about over under between through during against among upon within toward"
        " towards across behind after before around near without",
    ),
    "be_have": (
        "forms of be, have and do",
        "",
        "is are was were be been being am has have had having do does did isn't aren't wasn't weren't it's that's",
    ),
    "conjunctions": ("conjunctions: and, or, but", "", "and or but nor so yet because although while whereas if"),
    "pronouns": (
        "personal pronouns",
        "",
        "i me you he him she her it we us they them myself yourself himself herself itself ourselves themselves",
    ),
    "possessive_pronouns": (
        "possessive pronouns: my, your, their",
        "",
        "my your his her its our their mine yours ours theirs",
    ),
    "demonstratives": ("pointing words: this, that, these", "", "this that these those such here there"),
    "relatives": ("relative clauses: which, who, that", "", "which who whom whose that where when"),
    "degree_words": (
        "degree words: very, so, too",
        "",
        "very so too quite rather really extremely highly much more most enough pretty",
    ),
    "first_person": (
        "first person singular: I, me, my",
        "in first-person writing",
        "i me my mine myself i'm i've i'd i'll",
    ),
    "first_person_plural": ("first person plural: we, us, our", "", "we us our ours ourselves we're we've we'll"),
    "second_person": ("second person, addressing you", "", "you your yours yourself you're you've you'll you'd u ur"),
    "third_person": ("third person: he, she, his", "", "he him his himself she her hers herself"),
    "hedging": (
        "hedging and uncertainty",
        "",
        "might perhaps maybe possibly probably seems seem seemed appears apparently likely unlikely presumably roughly"
        " somewhat suggest suggests may could",
    ),
    "certainty": (
        "certainty and emphasis",
        "",
        "definitely certainly clearly obviously absolutely surely undoubtedly indeed truly always never completely"
        " totally entirely",
    ),
    "modals": ("obligation: must, should, shall", "", "must should shall ought required requires need needs obliged"),
    "negation": (
        "negation: not, no, never",
        "",
        "not no never none nothing nobody neither nor without don't doesn't didn't isn't wasn't can't cannot won't"
        " couldn't wouldn't shouldn't aren't weren't haven't hasn't ain't",
    ),
    "contrast_words": (
        "contrast: but, however, although",
        "",
        "but however although though yet nevertheless nonetheless whereas despite instead otherwise while",
    ),
    "reasoning": (
        "reasoning and inference: because, therefore",
        "",
        "because therefore thus hence so since consequently accordingly implies conclude conclusion follows reason",
    ),
    "sequence": (
        "step-by-step order: first, then, next",
        "",
        "first firstly second secondly third thirdly then next finally lastly afterwards step steps",
    ),
    "addition": (
        "adding a point: also, moreover",
        "",
        "also additionally moreover furthermore besides too plus likewise",
    ),
    "examples": (
        "giving examples: such as, for example",
        "",
        "example examples instance e.g such including like namely",
    ),
    "comparison": (
        "comparison: more, less, than",
        "",
        "more less than most least better worse greater fewer higher lower",
    ),
    "quantities": (
        "vague quantities: many, several, some",
        "",
        "many several some few various numerous multiple couple lots plenty dozens hundreds thousands most all every",
    ),
    "number_words": (
        "numbers written as words",
        "",
        "one two three four five six seven eight nine ten eleven twelve twenty thirty forty fifty hundred thousand"
        " million billion",
    ),
    "time_words": (
        "time: days, months, years",
        "",
        "today yesterday tomorrow day days week weeks month months year years hour hours minute minutes morning evening"
        " night tonight afternoon ago recently soon",
    ),
    "months_days": (
        "names of months and weekdays",
        "",
        "january february april june july august september october november december monday tuesday wednesday thursday"
        " friday saturday sunday",
    ),
    "question_words": ("question words: what, why, how", "", "what why how who where when which whom whose"),
    "positive": (
        "positive sentiment and praise",
        "in praise",
        "great good wonderful excellent amazing beautiful love loved happy best perfect fantastic awesome lovely"
        " delightful enjoy enjoyed brilliant impressive superb glad nice fun pleasant delicious",
    ),
    "negative": (
        "negative sentiment and complaint",
        "in complaints",
        "bad terrible awful horrible worst hate hated poor boring disappointing disappointed stupid annoying ugly sad"
        " angry wrong fail failed failure useless dull mess pathetic worse problem",
    ),
    "insults": (
        "insults and rude language",
        "in insults",
        "stupid idiot idiots moron dumb fool fools loser losers liar ignorant pathetic jerk trash scum hypocrite clown"
        " coward ugly",
    ),
    "profanity": (
        "profanity and swearing",
        "in swearing",
        "fuck fucking fucked shit shitty bullshit damn hell ass asshole bitch bastard crap piss dick cunt goddamn",
    ),
    "politeness": (
        "politeness: please, thanks, kindly",
        "",
        "please thanks thank kindly appreciate appreciated grateful sorry pardon welcome sincerely regards",
    ),
    "apologies": (
        "apologies: sorry, apologize",
        "in apologies",
        "sorry apologize apologise apologies apology regret pardon forgive",
    ),
    "slang": (
        "slang and informal chat",
        "in informal chat",
        "lol lmao omg wtf gonna wanna gotta dude bro ya yeah yep nope hey haha hahaha kinda sorta cuz cause tho idk btw"
        " im dont cant thats ok okay hmm wow oh",
    ),
    "archaic": (
        "archaic or Shakespearean English: thou, thee, hath",
        "in archaic English",
        "thou thee thy thine hath doth art ye shalt wilt hast dost o'er ere hither thither whence wherefore prithee"
        " methinks 'tis tis nay alas verily unto forsooth",
    ),
    "speech_verbs": (
        "reported speech: said, told, asked",
        "",
        "said says say told tell asked replied answered added cried whispered shouted exclaimed announced explained"
        " stated claimed",
    ),
    "emotions": (
        "feelings and emotions",
        "",
        "love fear anger joy sadness grief happy happiness hope despair lonely afraid scared angry anxious worried"
        " jealous shame guilt pride proud cry tears feelings feeling heart",
    ),
    "body": (
        "parts of the body",
        "",
        "hand hands eye eyes face head hair arm arms leg legs foot feet mouth lips finger fingers shoulder shoulders"
        " skin heart chest neck voice ear ears nose",
    ),
    "family": (
        "family and relatives",
        "about family",
        "mother father mom dad son daughter brother sister wife husband child children parents family uncle aunt"
        " grandmother grandfather cousin baby kids marriage married",
    ),
    "colours": (
        "names of colours",
        "",
        "red blue green yellow white black brown purple orange pink grey gray golden silver",
    ),
    "places": (
        "countries and nations",
        "",
        "america american britain british england english france french germany german china chinese japan"
        " japanese india"
        " indian russia russian italy italian spain spanish australia australian canada canadian africa african europe"
        " european iraq iran israel mexico nigeria kenya",
    ),
    "instructions": (
        "commands and instructions",
        "in instructions",
        "add mix stir press click select choose enter open close use make sure ensure check",
    ),
}

"""Lists of words and what they are about, so that a label can say "sport" where the words say game, season, team.

Each is short and modest: a sample of everyday words, lower-cased, no stems. `MANNER` are ways of speaking; `TOPICS` are
subjects, of which a text must hold several different words.
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
    "third_person": ("he and she, third-person narration", "", "he him his himself she her hers herself"),
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
    "wonder": (
        "commands and instructions",
        "in instructions",
        "add mix stir press click select choose enter open close use make sure ensure check",
    ),
}
MANNER["instructions"] = MANNER.pop("wonder")

#: name: (label, setting, words).
TOPICS: dict[str, tuple[str, str, str]] = {
    "sports": (
        "sport: games, teams, players",
        "in sports writing",
        "game games team teams season player players coach league cup match goal goals score scored win championship"
        " football baseball basketball hockey soccer cricket tennis nba nfl olympic stadium playoff playoffs rugby",
    ),
    "politics": (
        "politics and government",
        "in politics",
        "government president minister election elections vote votes party parliament congress senate democrat"
        " republican"
        " democratic political campaign policy prime liberal conservative senator governor administration",
    ),
    "war": (
        "war and the military",
        "in texts about war",
        "war army military soldiers troops battle navy force forces enemy weapons attack attacks bomb fire guns"
        " regiment"
        " infantry general command missile officer killed",
    ),
    "business": (
        "business, finance and the economy",
        "in business news",
        "company companies market markets stock shares profit investors bank economy economic business price"
        " prices sales"
        " trade industry financial tax growth billion quarter revenue",
    ),
    "law": (
        "law and the courts",
        "in legal text",
        "court judge law legal attorney lawyer case trial evidence jury justice defendant plaintiff statute"
        " constitution"
        " supreme lawsuit rights appeal",
    ),
    "crime": (
        "crime and the police",
        "in crime stories",
        "police murder crime criminal arrested prison victim victims suspect killed killing robbery violence gun shot"
        " detective charged sentenced officers",
    ),
    "terms_of_service": (
        "terms of service, privacy policy and copyright notices",
        "in terms of service",
        "license licensed copyright agreement terms liability warranty policy privacy content users user"
        " services rights"
        " consent notice account repository dmca takedown",
    ),
    "medicine": (
        "medicine and health",
        "in medical text",
        "patients patient disease treatment medical health doctor hospital clinical drug drugs symptoms cancer blood"
        " therapy brain infection diagnosis surgery pain virus",
    ),
    "biology": (
        "biology: cells, genes, species",
        "in biology",
        "cells cell gene genes protein proteins dna species evolution plants animals bacteria tissue expression"
        " membrane"
        " molecular organisms biological mice",
    ),
    "animals": (
        "animals and wildlife",
        "about animals",
        "animal animals dog dogs cat cats bird birds fish horse horses cattle sheep cow cows wolf bear lion snake"
        " species insects wildlife",
    ),
    "farming": (
        "farming and agriculture",
        "in farm news",
        "farmers farmer farm wheat crop crops drought grain cattle wool sheep agriculture rural growers harvest dairy"
        " livestock water soil",
    ),
    "weather": (
        "weather and storms",
        "about the weather",
        "rain storm wind winds hurricane tropical weather snow temperature cyclone flood flooding clouds heat cold"
        " forecast winter summer",
    ),
    "space": (
        "astronomy and space",
        "in astronomy",
        "space planet planets star stars galaxy galaxies telescope orbit nasa earth moon sun solar universe astronomers"
        " mars black spacecraft",
    ),
    "physics": (
        "physics and mathematics research",
        "in physics papers",
        "quantum energy field theory particle particles equations magnetic phase spin electron model coupling symmetry"
        " dimensional gauge mass equation algebra theorem proof",
    ),
    "machine_learning": (
        "machine learning and data",
        "in machine learning",
        "model models training data dataset algorithm learning neural network networks classification features accuracy"
        " trained gpu inference tokens batch",
    ),
    "software": (
        "software and computers",
        "in software text",
        "software computer windows file files program server code version user install download browser firefox data"
        " system drive disk error click linux",
    ),
    "internet": (
        "the internet and websites",
        "",
        "web website online internet site page google email facebook twitter link search",
    ),
    "education": (
        "school and education",
        "about school",
        "school students student teacher teachers university college education class learning course degree professor"
        " exam classroom",
    ),
    "religion": (
        "religion, God and the Bible",
        "in religious writing",
        "god jesus christ church bible christian christians faith lord holy prayer sin heaven spirit religion religious"
        " gospel pray scripture islam muslim muslims jewish",
    ),
    "music": (
        "music and songs",
        "in music writing",
        "music song songs album band singer guitar piano concert lyrics rock jazz tour recorded single chart musical",
    ),
    "film": (
        "films and film reviews",
        "in film reviews",
        "film films movie movies director actor actress plot scene scenes character characters script screen audience"
        " comedy hollywood cinema cast starring",
    ),
    "television": (
        "television series and episodes",
        "",
        "episode episodes series season show television tv aired viewers fox abc nbc bbc",
    ),
    "games": (
        "video games",
        "in game writing",
        "game games player players gameplay level console nintendo playstation xbox developer characters",
    ),
    "books": (
        "books and literature",
        "",
        "book books novel author writer poem poems story literature published chapter poetry readers",
    ),
    "art": (
        "art, painting and design",
        "",
        "art artist artists painting paintings museum gallery design style sculpture portrait",
    ),
    "food": (
        "food and cooking",
        "in recipes",
        "food cook cooking recipe minutes oven butter sugar salt flour chicken cheese garlic sauce oil cup"
        " tablespoon eat"
        " meal dinner bread meat rice pepper",
    ),
    "wine": (
        "wine tasting notes",
        "in wine notes",
        "wine wines tannins fruit palate nose finish bottle acidity blackcurrant cherry bouquet",
    ),
    "travel": (
        "travel and places to visit",
        "about travel",
        "travel trip hotel beach city visit tour island airport flight tourists restaurant vacation",
    ),
    "transport": (
        "cars, roads and transport",
        "",
        "car cars road roads driver train railway bus traffic highway vehicle vehicles engine speed bridge",
    ),
    "ships": (
        "ships and the sea",
        "in sea stories",
        "ship ships boat sea captain sail crew pirate pirates deck ocean island coast aboard",
    ),
    "buildings": (
        "buildings and architecture",
        "",
        "building house tower built church castle walls roof architecture room construction",
    ),
    "nature": (
        "nature and landscape",
        "",
        "river mountain forest trees tree sky lake hills valley garden flowers stone land grass",
    ),
    "environment": (
        "climate and the environment",
        "",
        "climate carbon emissions environmental environment energy pollution warming greenhouse fuel oil",
    ),
    "royalty": (
        "kings, lords and the nobility",
        "",
        "king queen prince princess lord lady duke sir throne crown royal noble majesty earl",
    ),
    "human_rights": (
        "human rights declaration",
        "in the human rights declaration",
        "everyone rights human freedom equality dignity declaration nations entitled freedoms",
    ),
    "money": (
        "money, prices and buying",
        "",
        "money dollars dollar cost price pay paid buy sell cents sold bought spend worth cheap",
    ),
    "math_problem": (
        "maths word problem",
        "in maths word problems",
        "total many each per half twice times cost hours number average remaining altogether left percent sum",
    ),
    "relationships": (
        "love and relationships",
        "",
        "love relationship girlfriend boyfriend dating marriage kiss lover romantic sex wedding wife husband",
    ),
    "race_gender": (
        "race, gender and identity",
        "",
        "black white women men gay race racist gender sexual racism feminist lesbian jews woman",
    ),
    "jobs": (
        "jobs and work",
        "",
        "job work career employees employer employee salary manager skills resume interview hire workers position",
    ),
    "fashion": (
        "clothes and appearance",
        "",
        "dress shirt shoes clothes hat coat wearing wore suit jacket fashion skirt",
    ),
    "tourism_history": (
        "history: centuries, dynasties, empires",
        "",
        "century empire ancient dynasty medieval roman era kingdom historical emperor colonial",
    ),
}
TOPICS["history"] = TOPICS.pop("tourism_history")

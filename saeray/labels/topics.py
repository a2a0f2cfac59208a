"""Subjects as lists of words, of which a text must hold several different ones; short and modest, as in manner."""

from __future__ import annotations

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
    "history": (
        "history: centuries, dynasties, empires",
        "",
        "century empire ancient dynasty medieval roman era kingdom historical emperor colonial",
    ),
}

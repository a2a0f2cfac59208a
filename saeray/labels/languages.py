"""Which language a piece of text is in: by its script, and among Latin scripts by its commonest small words.

Some thirty function words a language are enough: in a dozen words of running text at least two or three are among them.
A word that several languages share counts for each, and the language with most wins.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

#: Running words looked at around a place, to each side: 25 in all hold five or more function words in most languages.
REACH = 12
#: Function words among them that name the language, and how far its count must be above English's.
LEAST, SHARE = 3, 0.2

_SMALL_WORDS = {
    "English": "the of and to in is that it for was on with as he she his her be at by this had not are but from or"
    " have an they which you were their we would been has i my what there if will when who so no your can do",
    "French": "le la les de des du et est un une dans que qui pour pas sur au aux par il elle ce cette sont avec ne se"
    " nous vous je mais ou d l qu c n s plus été fait être ont son sa ses leur comme à toute personne droit",
    "German": "der die das und ist nicht ein eine zu den von mit sich des auf für dem im es auch als wie nach aus bei"
    " einer um am sind war wird hat ich sie wir oder aber nur noch werden jeder recht",
    "Spanish": "el la los las de y en que es un una por con no para se del al lo su sus como más pero o fue son este"
    " esta está entre cuando muy sin sobre también me ya todo persona tiene derecho yo",
    "Italian": "il lo la i gli le di e è un una che non per in con del della dei nel alla da al si sono come più anche"
    " ma o questo dal delle suo sua ha essere ogni individuo diritto",
    "Portuguese": "o a os as de do da dos das e em no na um uma que não para com por se é ao mais como foi mas são"
    " pelo pela seu sua ou também está toda pessoa tem direito você",
    "Dutch": "de het een en van in is dat op te zijn voor met niet aan er om ook als bij door maar uit naar over dan"
    " nog worden werd heeft ieder recht ik je zij deze",
    "Swedish": "och att det som en i på är av för med den till inte om ett har de var sig han från vi kan men så eller"
    " rätt varje också när",
    "Danish or Norwegian": "og at det som en i på er av af for med den til ikke om et har de var seg sig han fra vi kan"
    " men så eller rett ret enhver også når være blev ble",
    "Icelandic": "og að er í á sem ekki við til um það var en fyrir með hann eru af þess þeir eða skal maður rétt",
    "Finnish": "ja on ei se että oli hän mutta myös kuin niin joka ovat sen tai olla kun jos ole hänen oikeus"
    " jokaisella mikä tämä",
    "Estonian": "ja on ei see et ta oli kui mis ka või oma igal inimesel õigus tema mitte selle",
    "Hungarian": "a az és hogy nem egy is van meg volt de ez ha minden vagy csak már mint személynek joga azt el",
    "Polish": "i w nie się na z do to że jest o jak od po a ale za przez co tak dla czy są ma prawo człowiek oraz jego"
    " lub każdy",
    "Czech or Slovak": "a v se na je že s z do o k i jako za by ale které od má každý právo nebo jeho jsou není sa"
    " alebo",
    "Croatian, Serbian or Bosnian": "i u je se na da za su od ne s o koji a kao ili to svako ima pravo biti njegove"
    " sve ovoj",
    "Romanian": "și şi de a în la cu pe nu o un este că din care pentru mai al ale ca sau sunt fi se orice persoană are"
    " dreptul",
    "Turkish": "ve bir bu da de için ile olarak çok daha olan gibi ne var o her en kadar sonra ama veya hakkı herkes"
    " değil tarafından",
    "Vietnamese": "và của là có không các được người cho trong một những với này đã để khi về từ quyền mọi như hay đến",
    "Indonesian or Malay": "yang dan di dengan untuk dari ini itu tidak dalam pada adalah akan atau ke oleh juga telah"
    " setiap orang berhak mempunyai saya",
    "Tagalog": "ang ng sa na mga ay at ito siya para hindi kung may bawat tao karapatan isang o kanyang",
    "Swahili": "na ya wa kwa ni katika za la kuwa hii cha yake huo wake ambao kama pia baada hiyo au kila mtu haki ana"
    " watu lakini hilo",
    "Hausa": "da a na ta ya ba wannan cikin shi su sun an ce kuma ga wani kan ne yana mai domin daga kasar wanda suka"
    " hakkin kowane",
    "Yoruba": "ni ti àwọn awọn ó ń sì náà naa tí fún lati láti wọn pé pe bí ọmọ gbogbo ninu nínú kan kò ilẹ ẹni",
    "Igbo": "na nke ndị nwere n'ime ọ bụ ka maka ya ọzọ mmadụ ikike onye",
    "Nigerian Pidgin": "dey di don wey sey dem na for go make am fit no pipol wetin im tok tori e on top",
    "Somali": "iyo oo ka ku in uu ay waxa waa la ah aan u xaq qof kasta",
    "Zulu or Xhosa": "ukuthi noma futhi kwi unelungelo wonke umuntu ngokuba okanye lonke",
    "Latin": "et in est non ad ut cum quod qui sed ex ab per quae atque ac esse sunt eius",
    "Catalan": "el la els les de i a que en un una per amb no és del al són dels tota persona té dret",
    "Welsh": "y yr a yn i o mae ar ei am oedd gan bod wedi hawl pawb",
    "Basque": "eta da du ez bat izan den dute ere egin bere eskubidea gizon orok",
    "Albanian": "të e në dhe një me për që është nga i së ka çdo kush drejtë",
    "Lithuanian or Latvian": "ir kad yra iš su į ne kaip apie turi teisę kiekvienas un ka no ar par uz vai ir katram"
    " tiesības",
    "Haitian or French Creole": "nan ak pou yo li moun tout dwa gen se ki sou fè pa genyen",
    "Esperanto": "la kaj de estas en ne al por ke ĉiu homo rajtas aŭ kun sia",
}

_SCRIPTS = {
    "Greek": r"[\u0370-\u03ff\u1f00-\u1fff]",
    "Cyrillic": r"[\u0400-\u052f]",
    "Hebrew": r"[\u0590-\u05ff]",
    "Arabic": r"[\u0600-\u06ff\u0750-\u077f]",
    "Devanagari": r"[\u0900-\u097f]",
    "Bengali": r"[\u0980-\u09ff]",
    "Tamil": r"[\u0b80-\u0bff]",
    "Indic": r"[\u0a00-\u0b7f\u0c00-\u0dff]",
    "Thai": r"[\u0e00-\u0e7f]",
    "Georgian or Armenian": r"[\u0530-\u058f\u10a0-\u10ff]",
    "Ethiopic": r"[\u1200-\u137f]",
    "Han": r"[\u3400-\u9fff]",
    "Kana": r"[\u3040-\u30ff]",
    "Hangul": r"[\u1100-\u11ff\uac00-\ud7af]",
    "Southeast Asian": r"[\u0e80-\u109f\u1780-\u17ff]",
}

LATIN = tuple(_SMALL_WORDS)
#: Languages and scripts that `spans` can answer, as people call them; English is not among them.
LANGUAGES = (
    *LATIN[1:],
    "Greek",
    "Russian",
    "Ukrainian",
    "Hebrew",
    "Arabic",
    "Persian or Urdu",
    "Hindi",
    "Bengali",
    "Tamil",
    "Thai",
    "Georgian or Armenian",
    "Amharic",
    "Chinese",
    "Japanese",
    "Korean",
    "Telugu, Gujarati or another Indian script",
    "Lao, Khmer or Burmese",
)

#: English words that say nothing of a topic.
SMALL_WORDS = frozenset(_SMALL_WORDS["English"].split())
# A word that English has too says nothing for another language: "do", "to" and "i" would make a chat Polish.
_WORD_BITS: dict[str, list[int]] = {}
for _index, _words in enumerate(_SMALL_WORDS.values()):
    for _word in sorted(set(_words.split()) - (SMALL_WORDS if _index else set())):
        _WORD_BITS.setdefault(_word, []).append(_index)

_FOREIGN = re.compile("|".join(f"(?P<s{i}>{c}(?:[^A-Za-z]*{c})*)" for i, c in enumerate(_SCRIPTS.values())))
_NAMED = {
    "Greek": "Greek",
    "Hebrew": "Hebrew",
    "Devanagari": "Hindi",
    "Bengali": "Bengali",
    "Tamil": "Tamil",
    "Indic": "Telugu, Gujarati or another Indian script",
    "Thai": "Thai",
    "Georgian or Armenian": "Georgian or Armenian",
    "Ethiopic": "Amharic",
    "Kana": "Japanese",
    "Hangul": "Korean",
    "Southeast Asian": "Lao, Khmer or Burmese",
}

Spans = list[tuple[int, int]]


def spans(text: str, words: Sequence[str], starts: NDArray[np.int32]) -> dict[str, Spans]:
    """Where `text` is in another language than English: characters (start, end) by language.

    `words` are its words in lower case and `starts` int32[words] their places, in order.
    """
    found: dict[str, Spans] = {}
    if not text.isascii():
        _by_script(text, found)
    _by_small_words(text, words, starts, found)
    return found


def _by_script(text: str, found: dict[str, Spans]) -> None:
    names = list(_SCRIPTS)
    kana = bool(re.search(_SCRIPTS["Kana"], text))
    for match in _FOREIGN.finditer(text):
        if match.end() - match.start() < 2:
            continue
        script = names[int(str(match.lastgroup)[1:])]
        found.setdefault(_language(script, match.group(), kana), []).append(match.span())


def _language(script: str, piece: str, kana: bool) -> str:
    if script == "Han":
        return "Japanese" if kana else "Chinese"
    if script == "Cyrillic":
        return "Ukrainian" if re.search("[іїєґІЇЄҐ]", piece) else "Russian"
    if script == "Arabic":
        return "Persian or Urdu" if re.search("[پچژگٹڈےۓ]", piece) else "Arabic"
    return _NAMED[script]


def _by_small_words(text: str, words: Sequence[str], starts: NDArray[np.int32], found: dict[str, Spans]) -> None:
    """The language with most small words among the words around each place, where it is clear of English."""
    hits = [(at, bit) for at, word in enumerate(words) for bit in _WORD_BITS.get(word, ())]
    if not hits:
        return
    at, bits = np.array(hits).T
    counts = np.zeros((len(words) + 1, len(LATIN)), np.int32)
    np.add.at(counts, (at + 1, bits), 1)
    if not (counts.sum(axis=0)[1:] >= LEAST).any():
        return
    total = counts.cumsum(axis=0)
    places = np.arange(len(words))
    low, high = np.maximum(places - REACH, 0), np.minimum(places + REACH + 1, len(words))
    near = total[high] - total[low]
    best = near[:, 1:].argmax(axis=1) + 1
    count = near[places, best]
    sure = (count >= LEAST) & (count >= SHARE * (high - low)) & (count >= 1.3 * near[:, 0])
    if not sure.any():
        return
    # A neighbour of the right language (Danish for Swedish) may win a window: the whole text's favourite takes it.
    votes = np.bincount(best[sure], minlength=len(LATIN))
    favourite = int(votes.argmax())
    best[sure & (near[:, favourite] >= 0.8 * count)] = favourite
    label = np.where(sure, best, 0)
    edges = np.flatnonzero(np.diff(label)) + 1
    for first, last in zip([0, *edges], [*edges, len(words)], strict=True):
        if label[first]:
            end = int(starts[last]) if last < len(words) else len(text)
            found.setdefault(LATIN[label[first]], []).append((int(starts[first]), end))

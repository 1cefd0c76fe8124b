"""How each word of the native model's vocabulary is pronounced.

The symbols and pronunciations are those of hibari's text-to-phoneme code for a word said alone (American English; `A`,
`I`, `O` and `W` are diphthongs, `T` is a flap). Knows nothing of sound and nothing of tensors.
"""

from __future__ import annotations

from collections.abc import Sequence

from microturn.interaction_model.native._errors import UnknownWordsError

PAUSE = " "
"""The symbol between two words, and behind the last one."""
ALPHABET = PAUSE + "AIOTWbdfhijklmnpstuvwzæðŋɐɑɔəɛɜɡɪɹʃʊʌʒʤʧˈˌθᵊᵻ"
"""Every symbol; its number is its place, counted from 1, as 0 is silence."""
SILENCE = 0

_TABLE = """
zero zˈɪɹO, one wˈʌn, two tˈu, three θɹˈi, four fˈɔɹ, five fˈIv, six sˈɪks, seven sˈɛvən, eight ˈAt,
nine nˈIn, ten tˈɛn, eleven əlˈɛvᵊn, twelve twˈɛlv, thirteen θˌɜɹtˈin, fourteen fˌɔɹtˈin,
fifteen fˌɪftˈin, sixteen sˌɪkstˈin, seventeen sˌɛvəntˈin, eighteen ˌAtˈin, nineteen nˌIntˈin,
twenty twˈɛnti, thirty θˈɜɹTi, forty fˈɔɹTi, fifty fˈɪfti, sixty sˈɪksti, seventy sˈɛvənti, eighty ˈATi,
ninety nˈIndi, hundred hˈʌndɹəd, red ɹˈɛd, green ɡɹˈin, blue blˈu, yellow jˈɛlO, black blˈæk,
white wˈIt, orange ˈɔɹᵊnʤ, purple pˈɜɹpᵊl, pink pˈɪŋk, brown bɹˈWn, ball bˈɔl, box bˈɑks, cup kˈʌp,
book bˈʊk, key kˈi, lamp lˈæmp, phone fˈOn, chair ʧˈɛɹ, table tˈAbᵊl, door dˈɔɹ, window wˈɪndO,
bag bˈæɡ, hat hˈæt, clock klˈɑk, bottle bˈɑTəl, spoon spˈun, circle sˈɜɹkᵊl, square skwˈɛɹ,
triangle tɹˈIˌæŋɡᵊl, star stˈɑɹ, apple ˈæpᵊl, banana bənˈænə, lemon lˈɛmən, pear pˈɛɹ, grape ɡɹˈAp,
cherry ʧˈɛɹi, kitchen kˈɪʧᵊn, bedroom bˈɛdɹˌum, bathroom bˈæθɹˌum, office ˈɔfəs, garden ɡˈɑɹdən,
garage ɡəɹˈɑʒ, put pˌʊt, take tˈAk, bring bɹˈɪŋ, move mˈuv, open ˈOpᵊn, close klˈOs, turn tˈɜɹn,
find fˈInd, show ʃˈO, tell tˈɛl, say sˈA, start stˈɑɹt, keep kˈip, watch wˈɑʧ, up ˌʌp, down dˌWn,
left lˈɛft, right ɹˈIt, on ˌɔn, off ˈɔf, in ˈɪn, here hˈɪɹ, there ðˈɛɹ, monday mˈʌndˌA, tuesday tˈuzdˌA,
wednesday wˈɛnzdˌA, thursday θˈɜɹzdˌA, friday fɹˈIdˌA, saturday sˈæTəɹdˌA, sunday sˈʌndˌA, today tədˈA,
tomorrow təmˈɑɹO, tonight tənˈIt, morning mˈɔɹnɪŋ, noon nˈun, evening ˈivnɪŋ, what wˌʌt, where wˌɛɹ,
when wˌɛn, who hˌu, how hˌW, why wˌI, many mˈɛni, much mˈʌʧ, long lˈɔŋ, colour kˈʌləɹ, day dˈA,
yes jˈɛs, no nˈO, okay ˌOkˈA, stop stˈɑp, wait wˈAt, sorry sˈɔɹi, please plˈiz, thanks θˈæŋks,
hello həlˈO, goodbye ɡˌʊdbˈI, good ɡˈʊd, every ˈɛvəɹi, second sˈɛkənd, seconds sˈɛkəndz, minute mˈɪnət,
minutes mˈɪnəts, hour ˈWəɹ, hours ˈWəɹz, until ˌʌntˈɪl, now nˈW, remind ɹəmˈInd, me mˌi, breathe bɹˈið,
out ˈWt, tick tˈɪk, time tˈIm, timer tˈIməɹ, after ˈæftəɹ, then ðˈɛn, again əɡˈɛn, next nˈɛkst,
last lˈæst, squat skwˈɑt, squats skwˈɑts, jump ʤˈʌmp, jumps ʤˈʌmps, push pˈʊʃ, pushes pˈʊʃᵻz, wave wˈAv,
waves wˈAvz, count kˈWnt, times tˈImz, person pˈɜɹsᵊn, starts stˈɑɹts, stops stˈɑps, moves mˈuvz,
weather wˈɛðəɹ, news nˈuz, flight flˈIt, restaurant ɹˈɛstəɹənt, email ˈimˌAl, search sˈɜɹʧ,
music mjˈuzɪk, train tɹˈAn, hotel hOtˈɛl, price pɹˈIs, recipe ɹˈɛsəpˌi, doctor dˈɑktəɹ, meeting mˈiTɪŋ,
london lˈʌndən, paris pˈɛɹəs, rome ɹˈOm, berlin bəɹlˈɪn, tokyo tˈOkiˌO, sunny sˈʌni, rain ɹˈAn,
snow snˈO, cloudy klˈWdi, warm wˈɔɹm, cold kˈOld, degrees dəɡɹˈiz, found fˈWnd, booked bˈʊkt,
sent sˈɛnt, free fɹˈi, ready ɹˈɛdi, done dˈʌn, late lˈAt, the ðə, a ɐ, is ɪz, are ɑɹ, was wʌz, it ɪt,
this ðˈɪs, that ðˈæt, to tu, of ʌv, for fɔɹ, from fɹʌm, with wɪð, and ænd, or ɔɹ, not nˌɑt, i ˈI,
you ju, my mˈI, your jʊɹ, we wi, do dˈu, does dˈʌz, did dˈɪd, can kˈæn, will wˈɪl, would wˈʊd,
there's ðˈɛɹz, it's ɪts, i'll ˌIl, let's lˈɛts, check ʧˈɛk, look lˈʊk, looking lˈʊkɪŋ, get ɡˈɛt,
got ɡˈɑt, make mˌAk, play plˈA, call kˈɔl, cancel kˈænsᵊl, change ʧˈAnʤ, need nˈid, want wˈɑnt,
think θˈɪŋk, see sˈi, hear hˈɪɹ, more mˈɔɹ, less lˈɛs, all ˈɔl, some sˌʌm, first fˈɜɹst, new nˈu,
old ˈOld, big bˈɪɡ, small smˈɔl, fast fˈæst, slow slˈO, um ˈʌm, uh ˈʌ, hmm hmm
"""

PRONUNCIATIONS: dict[str, str] = {
    word: symbols for word, symbols in (entry.split() for entry in _TABLE.replace("\n", " ").split(","))
}
"""The symbols of each word."""


def symbols(word: str) -> tuple[int, ...]:
    """Return the numbers of a word's symbols, with the pause behind it.

    Raises:
        UnknownWordsError: the word is not in the vocabulary.
    """
    if word not in PRONUNCIATIONS:
        raise UnknownWordsError(1, "what the mouth is to say")
    return numbered(PRONUNCIATIONS[word] + PAUSE)


def numbered(symbols: Sequence[str]) -> tuple[int, ...]:
    """Return the numbers of symbols of the alphabet."""
    return tuple(_NUMBERS[symbol] for symbol in symbols)


_NUMBERS = {symbol: number for number, symbol in enumerate(ALPHABET, 1)}

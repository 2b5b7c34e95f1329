"""Tokenizers of the tiny text encoder (unigram, as UMT5's) and video reward (byte-level BPE, as Qwen2's)."""

import json
import math
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
from tokenizers import Regex, Tokenizer, decoders, normalizers, pre_tokenizers, processors, trainers
from tokenizers.models import BPE, Unigram
from transformers import PreTrainedTokenizerFast

from tavr_synthetic.captions import describe
from tavr_synthetic.motion import sample_motion
from tavr_synthetic.people import sample_person
from tavr_synthetic.scenes import sample_scene

SPECIAL = ("<pad>", "</s>", "<unk>", "<s>")
"""Ids 0 to 3; the first three as every T5 tokenizer has them."""
SENTINELS = 32
PRINTABLE = [chr(code) for code in range(33, 127)]

WORDS = """
a about above across after again against air all along also always an and animal another any apple are arm around
art as at autumn away baby back bag ball bank bathroom be beach beautiful because bed bedroom before behind below
beside best better between big bird black blue blurry board boat body book both bottle bottom bowl box boy bread
bridge bright broken brother brown building bus but buy by cafe calm camera can car carefully cat centre chair child
children church circle city clean clear close closed cloth cloud coat coffee cold colour come computer corner could
country crowd cup curly dark day deep desk detailed different dinner distant do dog door down drawing dress drink
drive dry each early easy eat eight empty end evening every expression eye eyes face fall family far farm fast
father field film fire first fish five floor flower fly food foot for forest forward four friend from front full
garden gentle get girl glass go good grass great green ground group grow guitar hair half hall hand happy hard has
hat have he head hear heavy her here high hill his hold home horse hospital hot hour house how ice if in indoor
inside interview into is island it jacket keep kind kitchen know lake lamp large last late laugh leaf learn left
lens letter light like line listen little living long look looking loud low machine make man many map market me meet
metal microphone middle milk mirror modern money month moon more morning mother mountain mouth move moving much
music near neck never new news next night nine no noise north not now ocean of off office often oil old on once one
only open or orange other our out outdoor outside over page paint pair paper parent park part party pass people
person phone photo picture piece place plain plane plant play please point poor portrait quiet quickly quite rain
reader ready real red rest rice rich ride right ring river road rock room round run sad sand say school sea season
second see seven shadow shape sharp she ship shirt shoe shop short shoulder show side sing sister sit six size skin
sky sleep slow slowly small smile smooth snow soft some song soon sound south space speak speaking spoon sport
spring square stage stand star start station stay step still stone stop story street strong studio summer sun sure
sweet swim table take talk talking tall teacher team tell ten tennis than that the their them then there they thing
think this three through time tired to today together tomorrow too top towards town toy train travel tree turn two
under until up very video village voice wait walk wall warm wash watch water way we wear wearing week well west wet
what wheel when where which white who wide wild wind window winter with woman wood word work world write yellow yes
you young your
""".split()  # noqa: SIM905 - a list of words reads as text


def captions(seeds: Iterable[int]) -> list[str]:
    """One caption a seed, of a person in a room that no other seed shows."""
    texts: list[str] = []
    for seed in seeds:
        rng = np.random.default_rng([seed, 11])
        motion = sample_motion(seed, 44, 25)
        texts.append(describe(sample_person(seed), sample_scene(seed + 500_000), motion, rng))
    return texts


def sentences(count: int, seed: int) -> list[str]:
    """Strings of 3 to 24 everyday words, so that prompts from outside the world's captions have pieces too."""
    rng = np.random.default_rng([seed, 0x776F])
    texts: list[str] = []
    for _ in range(count):
        words = [WORDS[int(i)] for i in rng.integers(len(WORDS), size=int(rng.integers(3, 25)))]
        text = " ".join(words)
        texts.append(text.capitalize() + "." if rng.random() < 0.5 else text)
    return texts


def unigram_tokenizer(texts: Sequence[str], size: int) -> PreTrainedTokenizerFast:
    """A UMT5-like tokenizer of about `size` pieces: unigram with byte fallback, `</s>` appended, sentinels last."""
    tokenizer = Tokenizer(Unigram())
    tokenizer.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Replace(Regex(r"\s+"), " ")])
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(replacement="▁", prepend_scheme="always")
    trainer = trainers.UnigramTrainer(
        vocab_size=size,
        special_tokens=list(SPECIAL),
        unk_token="<unk>",  # noqa: S106 - not a secret
        initial_alphabet=PRINTABLE,
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    pieces = _scored_pieces(tokenizer, texts)
    lowest = min(score for _, score in pieces)
    vocabulary = [(token, 0.0) for token in SPECIAL]
    vocabulary += [(f"<0x{byte:02X}>", lowest - 10.0) for byte in range(256)]
    vocabulary += pieces
    vocabulary += [(f"<extra_id_{index}>", 0.0) for index in range(SENTINELS - 1, -1, -1)]
    tokenizer.model = Unigram(vocabulary, unk_id=SPECIAL.index("<unk>"), byte_fallback=True)
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    tokenizer.post_processor = processors.TemplateProcessing(
        single="$A </s>", pair="$A </s> $B </s>", special_tokens=[("</s>", SPECIAL.index("</s>"))]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="<pad>",  # noqa: S106 - not a secret
        eos_token="</s>",  # noqa: S106 - not a secret
        bos_token="<s>",  # noqa: S106 - not a secret
        unk_token="<unk>",  # noqa: S106 - not a secret
        additional_special_tokens=[f"<extra_id_{index}>" for index in range(SENTINELS)],
        model_max_length=512,
        padding_side="right",
    )


def _scored_pieces(tokenizer: Tokenizer, texts: Sequence[str]) -> list[tuple[str, float]]:
    """Pieces with log frequencies, most frequent first.

    The trainer's own probabilities differ from run to run in the third digit (it sums in hash order), the pieces do
    not; so the pieces are counted in the texts as segmented by the rounded probabilities.
    """
    rows = json.loads(tokenizer.to_str())["model"]["vocab"]
    rounded = [(str(piece), round(float(score), 1)) for piece, score in rows]
    model = [(token, 0.0) for token in SPECIAL] + sorted(row for row in rounded if row[0] not in SPECIAL)
    tokenizer.model = Unigram(model, unk_id=SPECIAL.index("<unk>"), byte_fallback=False)
    counts = Counter(piece for text in texts for piece in tokenizer.encode(text).tokens)
    total = sum(counts.values())
    scored = [(piece, round(math.log((counts[piece] + 1) / total), 4)) for piece, _ in rounded if piece not in SPECIAL]
    return sorted(scored, key=lambda row: (-row[1], row[0]))


def byte_level_tokenizer(texts: Sequence[str], size: int, special: Sequence[str]) -> PreTrainedTokenizerFast:
    """A Qwen2-like tokenizer of `size` byte-level BPE tokens and the special tokens after them."""
    tokenizer = Tokenizer(BPE())
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=size, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False
    )
    tokenizer.train_from_iterator(texts, trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        eos_token="<|im_end|>",  # noqa: S106 - not a secret
        pad_token="<|endoftext|>",  # noqa: S106 - not a secret
        additional_special_tokens=[token for token in special if token not in ("<|im_end|>", "<|endoftext|>")],
        model_max_length=4096,
        padding_side="right",
    )


def save_tokenizer(tokenizer: PreTrainedTokenizerFast, directory: Path) -> None:
    """Write tokenizer.json and its configuration."""
    directory.mkdir(parents=True, exist_ok=True)
    tokenizer.save_pretrained(str(directory))

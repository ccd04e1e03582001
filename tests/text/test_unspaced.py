"""Scripts without spaces: what counts as a word, and that repeats and near copies are found as in Chinese."""

from __future__ import annotations

import itertools
import time

import pytest

from curate.html.blocks import count_words
from curate.ops.dedup._word_runs import distinct_runs
from curate.ops.quality.gopher_c4_fineweb import gopher_quality
from curate.ops.quality.repetition import gopher_repetition
from curate.ops.quality.text import text_basic
from curate.page.words import word_recall
from curate.text import stats
from curate.text.words import plain_words, words

PARAGRAPHS = {
    "Chinese": (
        "我们在河边的小村庄里住了很多年，后来因为工作的关系搬到了城里，但是每年夏天都会回去看望老朋友，"
        "一起在大树下喝茶聊天，听老人讲过去的故事，直到太阳落山才慢慢走回家。",
        {"夏天": "冬天", "老人": "孩子"},
    ),
    "Thai": (
        "เราอาศัยอยู่ในหมู่บ้านเล็กๆริมแม่น้ำเป็นเวลาหลายปี ต่อมาย้ายเข้าไปอยู่ในเมืองเพราะเรื่องงาน แต่ทุกฤดูร้อนเราจะกลับไปเยี่ยมเพื่อนเก่า "
        "นั่งดื่มชาใต้ต้นไม้ใหญ่ ฟังคนแก่เล่าเรื่องในอดีต จนพระอาทิตย์ตกจึงค่อยๆเดินกลับบ้าน",
        {"ดื่มชา": "กินข้าว", "คนแก่": "เด็ก"},
    ),
    "Lao": (
        "ພວກເຮົາອາໄສຢູ່ໃນໝູ່ບ້ານນ້ອຍໆແຄມແມ່ນ້ຳເປັນເວລາຫຼາຍປີ ຕໍ່ມາຍ້າຍເຂົ້າໄປຢູ່ໃນເມືອງຍ້ອນເລື່ອງວຽກ ແຕ່ທຸກລະດູຮ້ອນພວກເຮົາຈະກັບໄປຢາມໝູ່ເກົ່າ "
        "ນັ່ງດື່ມຊາໃຕ້ຕົ້ນໄມ້ໃຫຍ່ ຟັງຄົນເຖົ້າເລົ່າເລື່ອງໃນອະດີດ ຈົນຕາເວັນຕົກຈຶ່ງຄ່ອຍໆຍ່າງກັບບ້ານ",
        {"ດື່ມຊາ": "ກິນເຂົ້າ", "ຄົນເຖົ້າ": "ເດັກນ້ອຍ"},
    ),
    "Khmer": (
        "យើងរស់នៅក្នុងភូមិតូចមួយក្បែរមាត់ទន្លេអស់រយៈពេលជាច្រើនឆ្នាំ ក្រោយមកយើងបានផ្លាស់ទៅរស់នៅទីក្រុងដោយសារការងារ "
        "ប៉ុន្តែរៀងរាល់រដូវក្តៅយើងតែងត្រឡប់ទៅលេងមិត្តចាស់ អង្គុយផឹកតែក្រោមដើមឈើធំ ស្តាប់ចាស់ៗនិទានរឿងអតីតកាល",
        {"ផឹកតែ": "ញ៉ាំបាយ", "ចាស់ៗ": "ក្មេង"},
    ),
    "Burmese": (
        "ကျွန်တော်တို့သည်မြစ်ကမ်းနားရှိရွာငယ်လေးတွင်နှစ်ပေါင်းများစွာနေထိုင်ခဲ့ကြသည်။ နောက်ပိုင်းတွင်အလုပ်ကိစ္စကြောင့်မြို့သို့ပြောင်းရွှေ့ခဲ့သော်လည်း"
        "နွေရာသီတိုင်းသူငယ်ချင်းဟောင်းများထံပြန်သွားလည်ပတ်ကာသစ်ပင်ကြီးအောက်တွင်လက်ဖက်ရည်သောက်ရင်းအဘိုးအဘွားများ"
        "ပြောပြသောပုံပြင်များကိုနားထောင်ကြသည်။",
        {"လက်ဖက်ရည်": "ကော်ဖီ", "ပုံပြင်": "သီချင်း"},
    ),
}
OTHERS = {name: paragraph for name, paragraph in PARAGRAPHS.items() if name != "Chinese"}


def gopher(text: str) -> dict[str, float]:
    return {name: values[0] for op in (gopher_quality, gopher_repetition) for name, values in op([text]).items()}


def similarity(first: str, second: str) -> float:
    """The Jaccard similarity of the runs of five words, as near copies are told by it."""
    runs, places = distinct_runs([first, second], 5)
    sets = [set(runs[start:end].tolist()) for start, end in itertools.pairwise(places)]
    return len(sets[0] & sets[1]) / len(sets[0] | sets[1])


@pytest.mark.parametrize(
    ("text", "tokens"),
    [
        ("เด็กๆ ชอบน้ำ", ["เด็", "กๆ", "ช", "อ", "บ", "น้ำ"]),
        ("ເຂົ້າໜຽວ 12", ["ເຂົ້າ", "ໜຽ", "ວ", "12"]),
        ("ភាសាខ្មែរ", ["ភា", "សា", "ខ្មែ", "រ"]),
        ("မြန်မာနိုင်ငံ", ["မြန်", "မာ", "နိုင်", "ငံ"]),
        ("བོད་སྐད་ཀྱི", ["བོད", "སྐད", "ཀྱི"]),
        ("ꦧꦱꦗꦮꦏꦿꦩ", ["ꦧ", "ꦱ", "ꦗ", "ꦮ", "ꦏꦿ", "ꦩ"]),
        ("ᬩᬲᬩᬮᬶ", ["ᬩ", "ᬲ", "ᬩ", "ᬮᬶ"]),
        ("ｶﾞｷﾞ 2ปีPython", ["ｶﾞ", "ｷﾞ", "2", "ปี", "Python"]),
        ("我们 and ไทย", ["我", "们", "and", "ไท", "ย"]),
    ],
)
def test_cluster_of_letters_is_a_word_in_scripts_without_spaces(text: str, tokens: list[str]) -> None:
    assert words(text).tokens == tokens
    assert plain_words(text).tokens == [token.lower() for token in tokens]
    assert list(stats.words(text)) == [token.lower() for token in tokens if not token.isdigit()]
    assert text_basic([text])["word_count"] == [len(tokens)]
    assert count_words(text) >= len(tokens) - 1  # digits beside letters are theirs


def test_zero_width_spaces_and_dots_of_tibetan_part_words_and_are_none() -> None:
    assert words("ភាសា\u200bខ្មែរ").tokens == words("ភាសាខ្មែរ").tokens
    assert words("བོད་སྐད").tokens == ["བོད", "སྐད"]
    assert stats.words("one\u200btwo") == ("one", "two")


@pytest.mark.parametrize("script", PARAGRAPHS)
def test_clause_five_times_over_is_repetition_in_any_script(script: str) -> None:
    text, _ = PARAGRAPHS[script]
    clause = text.replace("，", " ").split()[0]
    found = gopher(clause * 5)
    assert 0.7 < found["gopher_repeated_5_grams"] <= 0.85
    assert stats.word_repetition(clause * 5) > 0.9


def test_run_of_words_without_spaces_covers_its_own_characters_alone() -> None:
    assert gopher("天地" * 5)["gopher_top_2_gram"] == 1
    assert gopher("ab cd " * 5)["gopher_top_2_gram"] == pytest.approx(5 * 5 / 30)


@pytest.mark.parametrize("script", PARAGRAPHS)
def test_paragraph_with_two_words_changed_is_nearly_the_same_in_any_script(script: str) -> None:
    text, changes = PARAGRAPHS[script]
    changed = text
    for word, other in changes.items():
        assert word in changed
        changed = changed.replace(word, other)
    assert 0.65 < similarity(text, changed) < 0.95
    assert similarity(text, PARAGRAPHS["Thai" if script != "Thai" else "Lao"][0]) < 0.05


@pytest.mark.parametrize("script", OTHERS)
def test_prose_without_spaces_has_as_many_words_as_gopher_asks_for(script: str) -> None:
    found = gopher(OTHERS[script][0])
    assert found["gopher_words"] > 50 and found["gopher_mean_word_length"] < 5
    assert found["gopher_alphabetic_words"] > 0.9
    assert found["gopher_repeated_5_grams"] < 0.1


def test_recall_of_a_page_in_a_script_without_spaces_counts_what_was_read_of_a_clause() -> None:
    text, changes = PARAGRAPHS["Thai"]
    changed = text
    for word, other in changes.items():
        changed = changed.replace(word, other)
    recall = word_recall(text, changed)
    assert recall is not None and 0.9 < recall < 1


def test_marks_are_a_small_share_of_chinese_and_burmese_words_and_marks() -> None:
    for script in ("Chinese", "Burmese"):
        assert 0.01 < stats.punctuation(PARAGRAPHS[script][0]) < 0.15


@pytest.mark.parametrize("text", ["เ" * 300_000, "\u0e31" * 300_000, "က္" * 150_000, "ก\u200d" * 150_000, "་" * 300_000])
def test_text_of_marks_alone_is_split_in_little_time(text: str) -> None:
    start = time.process_time()
    words(text), plain_words(text), stats.words(text), text_basic([text])
    assert time.process_time() - start < 5
